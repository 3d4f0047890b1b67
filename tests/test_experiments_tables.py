"""The tables as a queue of runs that can be stopped and started, the report on what they left, and the demo."""

import csv
import importlib.util
import math
import multiprocessing
import re
import statistics

import pytest
import torch
from matplotlib import image

import vmf_ops
from experiments import claims, data, demo, gradients, models, paper, published, report, summary, tables, train

SMALL = ["--dataset", "digits", "--epochs", "3", "--importance-samples", "3"]


@pytest.fixture
def folders(tmp_path):
    return ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]


def written(tmp_path, name="rows_digits.csv"):
    with (tmp_path / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


# ---- What the tables hold ----


def test_every_row_has_its_table_s_size():
    for dataset in ("static_mnist", "caltech101", "omniglot"):
        for name, figures in paper.published(dataset).items():
            if name == paper.BEST_SPHERE:
                continue
            spheres = list(map(int, name.split(",")))
            assert sum(d + 1 for d in spheres) == figures.ambient, name
            # 40 degrees of freedom, or 41 coordinates.
            assert sum(spheres) == 40 if figures.table == 5 else figures.ambient == 41, name
    assert [len(row.split(",")) for row in tables.TORI] == [20, 40]


def test_the_paper_s_figures_are_as_printed():
    published = paper.published("static_mnist")
    assert published["15,10,4,3,2,1"] == (2, 41, -92.25, -98.10, 69.78, 28.32)
    assert published["10,10,10,10"] == (5, 44, -92.62, -98.26, None, None)
    assert published[paper.BEST_SPHERE].ll == -93.37 and published[paper.BEST_SPHERE].table == 1
    counts = [len(paper.published(name)) for name in ("static_mnist", "caltech101", "omniglot", "digits")]
    assert counts == [16, 14, 15, 0]


def test_rows_are_runs():
    config = tables.parse_row("3,1 min_kappa=0 beta=1,2", "digits", seed=4)
    assert (config.shells, config.min_kappa, config.beta, config.seed) == ((3, 1), 0.0, (1.0, 2.0), 4)
    config = tables.parse_row("gaussian:41")
    assert (config.model, config.shells) == ("gaussian", (40,))
    wrong = ["", "circles", "3,1 colour=2", "3,1 seed=5", "3,1 beta=x", "gaussian:x", "gaussian:0", "3 1"]
    wrong += ["3,1 law=published", "3,1 kappa=square", "3,1 samples=0", "3,1 free_bits=nan", "gaussian:41 kappa=exp"]
    for row in wrong:
        with pytest.raises(train.TrainingError):
            tables.parse_row(row)


def test_a_part_s_rows_have_their_own_names():
    for part in ("paper", "law", "latent"):
        rows = tables.rows_of(part, "caltech101")
        assert len(set(rows)) == len(rows) and [tables.parse_row(row).label for row in rows] == rows
    assert tables.rows_of("20,19", "caltech101") == ["20,19"]


# ---- Running them ----


def test_rows_are_appended_once_and_skipped_after(folders, tmp_path, capsys):
    arguments = [*SMALL, *folders, "--rows", "3,1", "gaussian:6"]
    tables.main(arguments)
    first = written(tmp_path)
    assert list(first[0]) == list(tables.COLUMNS)
    assert [(row["row"], row["seed"], row["epochs"]) for row in first] == [
        ("3,1", "0", "3"),
        ("gaussian:6", "0", "3"),
    ]
    assert len(first[0]["kl_per_shell"].split()) == 2
    assert float(first[0]["kl"]) == pytest.approx(sum(map(float, first[0]["kl_per_shell"].split())), abs=1e-3)
    tables.main([*arguments, "--seeds", "2"])
    assert "2 rows are in" in capsys.readouterr().out
    assert written(tmp_path)[:2] == first and len(written(tmp_path)) == 4
    assert not (tmp_path / "results" / "curves_digits.csv").exists()


def test_a_line_cut_short_is_run_again_and_spoils_nothing(folders, tmp_path):
    arguments = [*SMALL, *folders, "--rows", "2", "1"]
    tables.main(arguments)
    path = tmp_path / "results" / "rows_digits.csv"
    whole = path.read_text()
    path.write_text(whole[:-20])
    tables.main(arguments)
    assert path.read_text() == whole


def test_writers_of_one_file_lose_no_row(tmp_path):
    path, count = tmp_path / "table.csv", 30

    def write(name):
        for seed in range(count):
            tables.append_rows(path, [{"row": name, "seed": seed}], ["row", "seed"])

    workers = [multiprocessing.get_context("fork").Process(target=write, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rows = tables.read_rows(path, ["row", "seed"])
    assert sorted((row["row"], int(row["seed"])) for row in rows) == [(n, i) for n in "ab" for i in range(count)]


def test_workers_give_the_rows_that_one_process_gives(folders, tmp_path):
    rows = ["--rows", "3,1", "2"]
    tables.main([*SMALL, *folders, *rows, "--workers", "2"])
    there = sorted(written(tmp_path), key=lambda row: row["row"])
    tables.main([*SMALL, "--results", str(tmp_path / "again"), "--runs", str(tmp_path / "more"), *rows])
    here = sorted(tables.read_rows(tmp_path / "again" / "rows_digits.csv"), key=lambda row: row["row"])
    assert [{**row, "seconds": 0} for row in there] == [{**row, "seconds": 0} for row in here]


def test_a_row_named_twice_is_run_once(folders, tmp_path):
    tables.main([*SMALL, *folders, "--rows", "2", "2"])
    assert len(written(tmp_path)) == 1


def test_a_result_of_other_settings_is_not_taken(folders, tmp_path, capsys):
    tables.main([*SMALL, *folders, "--rows", "2"])
    (tmp_path / "results" / "rows_digits.csv").unlink()
    with pytest.raises(SystemExit, match="1 rows failed"):
        tables.main([*SMALL, *folders, "--rows", "2", "--importance-samples", "4"])
    assert "importance_samples 3, not 4" in capsys.readouterr().err


def test_a_failed_row_stops_no_other(folders, tmp_path, monkeypatch, capsys):
    run = tables.run

    def failing(config, *arguments, **options):
        if config.shells == (2,):
            raise train.TrainingError("epoch 1 gave nan")
        return run(config, *arguments, **options)

    monkeypatch.setattr(tables, "run", failing)
    with pytest.raises(SystemExit, match="1 rows failed"):
        tables.main([*SMALL, *folders, "--rows", "2", "3,1"])
    assert [row["row"] for row in written(tmp_path)] == ["3,1"]
    assert "epoch 1 gave nan" in capsys.readouterr().err


def test_ray_runs_the_rows_or_is_asked_for(folders, tmp_path):
    arguments = [*SMALL, *folders, "--rows", "3,1", "2", "--engine", "ray", "--workers", "2"]
    if importlib.util.find_spec("ray"):
        tables.main(arguments)
        assert {row["row"] for row in written(tmp_path)} == {"3,1", "2"}
    else:
        with pytest.raises(SystemExit, match=r"pip install 'vmf_ops\[cluster\]'"):
            tables.main(arguments)


def test_missing_data_and_foreign_tables_are_one_line(folders, tmp_path):
    with pytest.raises(SystemExit, match="train-images"):
        tables.main(["--dataset", "mnist", "--data-dir", str(tmp_path), *folders])
    assert not (tmp_path / "results").exists()
    (tmp_path / "results").mkdir()
    table = tmp_path / "results" / "rows_digits.csv"
    header = ",".join(tables.COLUMNS) + "\n"
    whole = '"20,19",0,3,3,-9.1,-9.2,-9.3,1,0.5 x,9.0,0.1.0\n'
    numbers = [whole, whole.replace("x", "inf"), whole.replace(",0,3", ",0.5,3"), whole.replace("0.5 x", "")]
    damaged = [b"a,b\n1,2\n", header.encode() + b"20,0\n", header.encode() + b"\xff\n"]
    for contents in [*damaged, *((header + line).encode() for line in numbers)]:
        table.write_bytes(contents)
        with pytest.raises(SystemExit, match="error: .*rows_digits.csv: .*"):
            tables.main([*SMALL, *folders])
        assert table.read_bytes() == contents
    with pytest.raises(SystemExit, match="2"):  # argparse's own
        tables.main([*SMALL, *folders, "--workers", "0"])
    with pytest.raises(SystemExit, match="error: "):
        tables.main([*SMALL, "--rows", "2", "--results", str(table), "--runs", str(tmp_path / "runs")])


# ---- The report ----


def line(row, ll, kl_per_shell="1", seed=0, epochs=300):
    """A finished row, with an ELBO of 5 less."""
    numbers = {"ll": ll, "elbo": ll - 5, "reconstruction": ll + 25, "kl": 30}
    names = {"row": row, "seed": str(seed), "epochs": str(epochs), "trained_epochs": str(epochs - 50)}
    return names | numbers | {"kl_per_shell": kl_per_shell}


def test_numbers_of_several_seeds_have_a_deviation():
    lines = [line("20,19", -93), line("20,19", -94, seed=1), line("20,19", -120, epochs=100)]
    text = report.results(claims.groups(lines), paper.published("static_mnist")).splitlines()
    assert len(text) == 3
    assert "| 20,19 | 2 | 250 | -93.50 ± 0.71 | -98.50 ± 0.71 |" in text[2]
    assert text[2].endswith("| 68.50 ± 0.71 | 30.00 ± 0.00 | -93.18 | -98.72 | 69.78 | 28.94 | -0.32 |")
    assert claims.shortened("30,1,1,1,1,1 min_kappa=0") == "30,1×5 min_kappa=0"
    assert "of 1 rows" in report.below_the_paper(claims.groups(lines), paper.published("static_mnist")).lower()


def test_two_models_are_compared_by_student_s_test():
    one = [line("a", ll, seed=seed) for seed, ll in enumerate((-90.0, -91.0, -92.5))]
    other = [line("b", ll, seed=seed) for seed, ll in enumerate((-91.0, -93.0, -95.5))]
    # Changes of 1, 2 and 3: t = 2√3 with two degrees of freedom, whose two-sided p is 1 - t/√(t²+2).
    result = claims.compare(one, other, (1.0, 5))
    assert result.difference == pytest.approx(2) and result.p == pytest.approx(1 - (12 / 14) ** 0.5)
    assert result.verdict == "not decided" and "paired, 3 seeds" in str(result)
    # One degree of freedom: the two-sided p is 1 - 2 atan(t)/π, and t = 2/√(1/1+1/1) = √2.
    result = claims.compare(one[:1], [line("b", -92.0, seed=7)], (1.0, 1))
    assert result.p == pytest.approx(1 - 2 * math.atan(2**0.5) / math.pi)
    assert claims.compare(one[:1], other[:1], (math.nan, 0)).verdict == "not decided"
    pooled = claims.spread({"a": one, "b": one[:1]})
    assert pooled == (pytest.approx(statistics.stdev((-90.0, -91.0, -92.5))), 2)


def test_the_claims_are_judged_by_the_rows():
    lines = [line("20,19", -93 + seed / 10, "9 9", seed=seed) for seed in (0, 1)]
    lines += [line("20,10,6,1", ll, "9 9 9 9", seed=seed) for seed, ll in enumerate((-92.0, -92.2))]
    lines += [line("40", -94), line("10", -96), line(tables.TORI[0], -92.9), line(tables.GAUSSIAN, -90)]
    lines += [line("38,1", -95, "0.05 25"), line("34,1,1,1", -101, "9 8 0.22 8")]
    judged = {claim.name: claim for claim in claims.claims("static_mnist", claims.groups(lines))}
    assert tuple(judged) == claims.NAMES
    product = judged[claims.PRODUCT]
    # The pooled deviation is √((0.005 + 0.02)/2), of two degrees of freedom.
    assert "20,10,6,1 has LL -92.10, 40 -94.00: +1.90 nats (2 and 1 seeds" in product.text
    assert "deviates by 0.11, p = 0.005" in product.text and product.verdict == "holds"
    breaks = judged[claims.BREAKS]
    assert "1: -94.00, 2: -92.95, 20: -92.90" in breaks.text and breaks.verdict == "does not hold"
    large = judged[claims.LARGE]
    # The least KL is that at κ = 1: 0.21 of a circle, 0.01 of S38.
    assert "In 2 runs" in large.text and "ignored 1 times" in large.text and large.verdict == "in part"
    assert judged[claims.GAUSS].verdict == "does not hold" and judged[claims.TORUS].verdict == "does not hold"
    assert judged[claims.DEGREES].verdict == claims.NO_ROWS
    shells = report.per_shell(claims.groups(lines), ["34,1,1,1", "38,1"])
    assert (
        "| 34,1×3 | 0 | 3 of 4 | 1 | 9.0 8.0 8.0 0.2 |" in shells and "| 38,1 | 0 | 1 of 2 | 38 | 0.1 25.0 |" in shells
    )
    assert all(claim.verdict == claims.NO_ROWS for claim in claims.claims("digits", {}))


def test_degrees_of_freedom_are_compared_row_by_row():
    lines = [line("10,9,9,9", -90.0 - seed, seed=seed) for seed in range(3)]
    lines += [line("10,10,10,10", -89.0 - seed + 0.1 * seed, seed=seed) for seed in range(3)]
    (claim,) = [c for c in claims.claims("omniglot", claims.groups(lines)) if c.name == claims.DEGREES]
    assert claim.verdict == "holds" and "10,9×3 to 10,10,10,10 +1.10 (3); in the mean +1.10" in claim.text.replace(
        "10×4", "10,10,10,10"
    )


def test_law_and_gradient_are_told_apart():
    lines = []
    for seed in range(3):
        noise = 0.1 * seed
        lines.append(line("34,1,1,1", -94 + noise, "20 2 2 2", seed))
        lines.append(line("34,1,1,1 gradient=rsvi", -94.2 + 2 * noise, "20 2 2 2", seed))
        lines.append(line("34,1,1,1 gradient=rsvi law=published", -108 - noise, "0 2 2 2", seed))
    text = summary.laws({"static_mnist": claims.groups(lines)})
    assert "| static MNIST | 34,1×3 | 3 3 3 | -93.90 | -94.00 | -108.10 | -108.42 | +0.10" in text
    assert "| 20.0 20.0 0.0 | 0 0 3 |" in text and "its sampler's doing" in text
    assert "not shown for 34,1×3" in summary.laws(
        {"omniglot": claims.groups([{**x, "ll": -94 + 0.01 * i} for i, x in enumerate(lines)])}
    )
    assert summary.laws({"omniglot": claims.groups(lines[:2])}) == ""


def test_options_are_judged_over_shared_seeds_and_by_the_number_of_tests():
    lines = [line("10,9,9,9", -90 - seed, "9 9 0 0" if seed % 2 else "9 9 9 0", seed) for seed in range(6)]
    lines += [line("10,9,9,9 kappa=exp", -89 - seed + 0.01 * seed, "9 9 9 9", seed) for seed in range(6)]
    lines += [line("10,9,9,9 min_kappa=0", -90 - seed + 0.3 * (-1) ** seed, "9 9 9 9", seed) for seed in range(5)]
    lines += [line("10,9,9,9 samples=4", -90, seed=seed) for seed in range(2)]
    text = summary.latents({"caltech101": claims.groups(lines)})
    assert "of 2 tests" in text and "Better than the default: `kappa=exp` (10,9×3, Caltech" in text
    assert "Worse: none" in text and "samples=4" not in text
    assert "2 in use: -93.00 (3 seeds), 3 in use: -92.00 (3 seeds)" in text


def test_the_published_sampler_has_another_law_only_above_kappa_10():
    torch.manual_seed(0)
    n, e1 = 200_000, torch.eye(41, dtype=torch.float64)[:1]
    for kappa, truth in ((9.0, True), (11.0, False)):
        cosine = published.s_vae(e1.expand(n, -1), torch.full((n, 1), kappa, dtype=torch.float64))[:, 0]
        length = vmf_ops.vmf_mean_length(41, kappa)
        # Six standard errors.
        assert (abs(cosine.mean() - length) < 6 * cosine.std() / n**0.5) == truth
    z = published.product(torch.eye(5)[:1].expand(9, -1) + torch.eye(5)[2], torch.ones(9, 2), (2, 3))
    torch.testing.assert_close(z[:, :2].norm(dim=-1), torch.ones(9))
    torch.testing.assert_close(z[:, 2:].norm(dim=-1), torch.ones(9))


def test_the_gradients_of_log_kappa_agree_where_nothing_is_rejected():
    torch.manual_seed(0)
    vae = models.build(64, (2, 2)).eval()
    x = (torch.rand(8, 64) > 0.5).float()
    # On S2 the cosine is drawn by inversion, and both are its derivative.
    found = []
    for gradient in gradients.GRADIENTS:
        torch.manual_seed(1)
        found.append(gradients.of_log_kappa(vae, x, gradient, 5))
    assert found[0].shape == (5, 8, 2) and found[0].abs().min() > 0
    torch.testing.assert_close(*found)


def test_report_shows_the_tables_and_every_figure(folders, tmp_path, capsys):
    rows = ["20,19", "38,1", "10,9,9,9", "10,10,10,10", "20,10,6,1", "1,1,1,1,1", *tables.TORI]
    tables.main([*SMALL[:2], "--epochs", "5", *SMALL[4:], *folders, "--rows", *rows])
    capsys.readouterr()
    results, page = tmp_path / "results", tmp_path / "paper.md"
    gradients.main(["--dataset", "digits", "--epochs", "5", *folders, "--rows", "10,9,9,9"])
    assert len(written(tmp_path, "gradients_digits.csv")) == 4 and "gradients_digits" in capsys.readouterr().out
    report.main(["--dataset", "digits", *folders, "--page", str(page)])
    assert capsys.readouterr().out.strip() == str(results / "report_digits.md") and not page.exists()
    report.main([*folders, "--page", str(page)])
    text = (results / "report_digits.md").read_text()
    assert "| 20,19 | 1 | 5 |" in text and "| 10×4 | 1 |" in text and "| 1×20 |" in text
    for name in (claims.PRODUCT, claims.BREAKS, claims.LARGE, claims.TORUS):
        assert (text.count(f"**{name}: ") == 1) == (name != claims.PRODUCT)
    figures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert figures == [f"{kind}_digits.png" for kind in ("shells", "awakening", "torus", "circle", "circles")]
    for figure in [*figures, "kl.png"]:
        pixels = image.imread(results / figure)
        assert min(pixels.shape[:2]) > 60 and pixels[..., :3].std() > 0.01
    curves = written(tmp_path, "curves_digits.csv")
    assert {row["row"] for row in curves} == {"10,9,9,9", *tables.TORI} and {row["epoch"] for row in curves} == {"5"}
    assert "| digits | 10,9×3 | S10 |" in text
    assert "| digits |" in page.read_text() and "report_digits.md" in page.read_text()


def test_a_report_on_nothing_is_an_error(folders):
    with pytest.raises(SystemExit, match="rows_digits.csv"):
        report.main(["--dataset", "digits", *folders])


def test_the_repository_s_reports_are_those_of_its_rows(tmp_path):
    for path in tables.RESULTS.glob("rows_*.csv"):
        dataset = path.stem.removeprefix("rows_")
        text = (tables.RESULTS / f"report_{dataset}.md").read_text()
        grouped = report.read(tables.RESULTS, dataset)
        for claim in claims.claims(dataset, grouped):
            assert claim.text in text and claim.text in report.PAGE.read_text()


# ---- The demo ----


def test_demo_prints_a_table_and_writes_the_picture_it_names(tmp_path, capsys):
    path = tmp_path / "demo.png"
    threads = torch.get_num_threads()
    demo.main(["--epochs", "3", "--out", str(path)])
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    for name in demo.MODELS:
        (line,) = [line for line in lines if line.startswith(name)]
        assert len(re.findall(r"-?\d+\.\d+", line)) == 5 + max(1, name.count("×") + 1)
    assert str(path) in lines[-1]
    assert image.imread(path).shape[:2] > (500, 500)


def test_demo_s_models_have_one_latent_size():
    images = data.digits()
    sizes = {demo.models.build(images.size, shells, kind).latent.size for kind, shells in demo.MODELS.values()}
    assert sizes == {10}
