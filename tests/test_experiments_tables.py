"""The tables as a queue of runs that can be stopped and started, the report on what they left, and the demo."""

import csv
import importlib.util
import multiprocessing
import re

import pytest
import torch
from matplotlib import image

from experiments import data, demo, report, table2, train

SMALL = ["--dataset", "digits", "--epochs", "3", "--importance-samples", "3"]


@pytest.fixture
def folders(tmp_path):
    return ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]


def written(tmp_path, name="table2_digits.csv"):
    with (tmp_path / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


# ---- What the tables hold ----


def test_every_row_has_its_table_s_size():
    for row in table2.PAPER:
        assert sum(d + 1 for d in map(int, row.split(","))) == 41, row
    for row in table2.FIXED_DOF:
        assert sum(map(int, row.split(","))) == 40, row
    assert table2.TORUS.count("1") == 20
    labels = [table2.parse_row(row).label for row in (*table2.FIXED_AMBIENT, *table2.FIXED_DOF)]
    assert labels == [*table2.FIXED_AMBIENT, *table2.FIXED_DOF]


def test_rows_are_runs():
    config = table2.parse_row("3,1 min_kappa=0 beta=1,2", "digits", seed=4)
    assert (config.shells, config.min_kappa, config.beta, config.seed) == ((3, 1), 0.0, (1.0, 2.0), 4)
    config = table2.parse_row("gaussian:41")
    assert (config.model, config.shells) == ("gaussian", (40,))
    for row in ("", "circles", "3,1 colour=2", "3,1 seed=5", "3,1 beta=x", "gaussian:x", "gaussian:0", "3 1"):
        with pytest.raises(train.TrainingError):
            table2.parse_row(row)


# ---- Running them ----


def test_rows_are_appended_once_and_skipped_after(folders, tmp_path, capsys):
    arguments = [*SMALL, *folders, "--rows", "3,1", "gaussian:6"]
    table2.main(arguments)
    first = written(tmp_path)
    assert list(first[0]) == table2.COLUMNS
    assert [(row["shells"], row["seed"], row["epochs"]) for row in first] == [
        ("3,1", "0", "3"),
        ("gaussian:6", "0", "3"),
    ]
    assert len(first[0]["kl_per_shell"].split()) == 2
    assert float(first[0]["kl"]) == pytest.approx(sum(map(float, first[0]["kl_per_shell"].split())), abs=1e-3)
    table2.main([*arguments, "--seeds", "2"])
    assert "2 rows are in" in capsys.readouterr().out
    assert written(tmp_path)[:2] == first and len(written(tmp_path)) == 4
    curves = written(tmp_path, "curves2_digits.csv")
    assert len(curves) == 4 * 3 and list(curves[0]) == table2.CURVE_COLUMNS


def test_a_line_cut_short_is_run_again_and_spoils_nothing(folders, tmp_path):
    arguments = [*SMALL, *folders, "--rows", "2", "1"]
    table2.main(arguments)
    path = tmp_path / "results" / "table2_digits.csv"
    whole = path.read_text()
    path.write_text(whole[:-20])
    table2.main(arguments)
    assert path.read_text() == whole


def test_writers_of_one_file_lose_no_row(tmp_path):
    path, count = tmp_path / "table.csv", 30

    def write(shells):
        for seed in range(count):
            table2.append_rows(path, [{"shells": shells, "seed": seed}], ["shells", "seed"])

    workers = [multiprocessing.get_context("fork").Process(target=write, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rows = table2.read_rows(path, ["shells", "seed"])
    assert sorted((row["shells"], int(row["seed"])) for row in rows) == [(n, i) for n in "ab" for i in range(count)]


def test_workers_give_the_rows_that_one_process_gives(folders, tmp_path):
    rows = ["--rows", "3,1", "2"]
    table2.main([*SMALL, *folders, *rows, "--workers", "2"])
    there = sorted(written(tmp_path), key=lambda row: row["shells"])
    table2.main([*SMALL, "--results", str(tmp_path / "again"), "--runs", str(tmp_path / "more"), *rows])
    here = sorted(table2.read_rows(tmp_path / "again" / "table2_digits.csv"), key=lambda row: row["shells"])
    assert [{**row, "seconds": 0} for row in there] == [{**row, "seconds": 0} for row in here]


def test_a_row_named_twice_is_run_once(folders, tmp_path):
    table2.main([*SMALL, *folders, "--rows", "2", "2"])
    assert len(written(tmp_path)) == 1


def test_a_result_of_other_settings_is_not_taken(folders, tmp_path, capsys):
    table2.main([*SMALL, *folders, "--rows", "2"])
    (tmp_path / "results" / "table2_digits.csv").unlink()
    with pytest.raises(SystemExit, match="1 of 1 rows failed"):
        table2.main([*SMALL, *folders, "--rows", "2", "--importance-samples", "4"])
    assert "importance_samples 3, not 4" in capsys.readouterr().err


def test_a_failed_row_stops_no_other(folders, tmp_path, monkeypatch, capsys):
    run = table2.run

    def failing(config, *arguments, **options):
        if config.shells == (2,):
            raise train.TrainingError("epoch 1 gave nan")
        return run(config, *arguments, **options)

    monkeypatch.setattr(table2, "run", failing)
    with pytest.raises(SystemExit, match="1 of 2 rows failed"):
        table2.main([*SMALL, *folders, "--rows", "2", "3,1"])
    assert [row["shells"] for row in written(tmp_path)] == ["3,1"]
    assert "epoch 1 gave nan" in capsys.readouterr().err


def test_ray_runs_the_rows_or_is_asked_for(folders, tmp_path):
    arguments = [*SMALL, *folders, "--rows", "3,1", "2", "--engine", "ray", "--workers", "2"]
    if importlib.util.find_spec("ray"):
        table2.main(arguments)
        assert {row["shells"] for row in written(tmp_path)} == {"3,1", "2"}
    else:
        with pytest.raises(SystemExit, match=r"pip install 'vmf_ops\[cluster\]'"):
            table2.main(arguments)


def test_missing_data_and_foreign_tables_are_one_line(folders, tmp_path):
    with pytest.raises(SystemExit, match="train-images"):
        table2.main(["--dataset", "mnist", "--data-dir", str(tmp_path), *folders])
    assert not (tmp_path / "results").exists()
    (tmp_path / "results").mkdir()
    table = tmp_path / "results" / "table2_digits.csv"
    header = ",".join(table2.COLUMNS) + "\n"
    for contents in (b"a,b\n1,2\n", header.encode() + b"20,0\n", header.encode() + b"\xff\n"):
        table.write_bytes(contents)
        with pytest.raises(SystemExit, match="error: .*table2_digits.csv: .*"):
            table2.main([*SMALL, *folders])
        assert table.read_bytes() == contents
    with pytest.raises(SystemExit, match="2"):  # argparse's own
        table2.main([*SMALL, *folders, "--workers", "0"])
    with pytest.raises(SystemExit, match="error: "):
        table2.main([*SMALL, "--rows", "2", "--results", str(table), "--runs", str(tmp_path / "runs")])


# ---- The report ----


def result(shells, ll, kl_per_shell="1", seed=0, gradient="implicit"):
    """A finished row, with an ELBO of 5 less."""
    row = {"shells": shells, "seed": str(seed), "gradient": gradient, "epochs": "300", "ll": ll, "elbo": ll - 5}
    return row | {"reconstruction": ll + 25, "kl": 30, "kl_per_shell": kl_per_shell}


def test_numbers_of_several_seeds_have_a_deviation():
    rows = [result("20,19", -93), result("20,19", -94, seed=1), {**result("20,19", -120), "epochs": "3"}]
    lines = report.table(report.groups(rows), table2.PAPER).splitlines()
    assert len(lines) == 3
    assert "| 20,19 | implicit | 2 | 300 | -93.50 ± 0.71 | -98.50 ± 0.71 |" in lines[2]
    assert lines[2].endswith("| 68.50 ± 0.71 | 30.00 ± 0.00 | -93.18 | -98.72 | 69.78 | 28.94 | -0.32 |")
    assert report.shortened("30,1,1,1,1,1 min_kappa=0") == "30,1×5 min_kappa=0"


def test_epochs_are_those_trained():
    row = result("20,19", -93)
    curves = [{**row, "epoch": str(epoch)} for epoch in (1, 2, 187)]
    assert "| 1 | 187 | -93.00 |" in report.table(report.groups([row]), None, report.trained_epochs(curves))


def test_the_claims_are_judged_by_the_rows():
    rows = [result("20,19", -93, "9 9", seed=seed) for seed in (0, 1)]
    rows += [result("20,10,6,1", ll, "9 9 9 9", seed=seed) for seed, ll in enumerate((-92.0, -92.2))]
    rows += [result("40", -94), result("10", -96), result(table2.TORUS, -92.9)]
    rows += [result("38,1", -95, "0.05 25"), result("34,1,1,1", -101, "9 8 0.22 8")]
    product, breaks, unbalanced = report.claims(report.groups(rows)).split("\n\n**")
    # The pooled deviation is sqrt((0 + 0.02)/2), the means' difference has sqrt(1/2 + 1) times that.
    assert "20,10,6,1, has LL -92.10, the best sphere, 40, -94.00: +1.90 nats" in product
    assert "2 against 1 seeds of one model differ by 0.12: **holds**" in product
    assert "1: -94.00, 2: -93.00, 20: -92.90" in breaks and "The best has 20" in breaks and "not decided" in breaks
    # The least KL is that at κ = 1: 0.21 of a circle, 0.01 of S38.
    assert "ignored in 1 of the 2" in unbalanced and "**does not hold**" in unbalanced
    assert "| 34,1×3 | 0 | 3 of 4 | 1 | 9.0 8.0 8.0 0.2 |" in unbalanced
    assert "| 38,1 | 0 | 1 of 2 | 38 | 0.1 25.0 |" in unbalanced
    assert report.claims(report.groups([result("40", -94)])) == ""


def test_differences_are_over_the_same_seeds():
    rows = [result("20,19", ll, seed=seed) for seed, ll in enumerate((-93, -92, -60))]
    rows += [result("20,19", -94, seed=seed, gradient="rsvi") for seed in (0, 1, 5)]
    rows += [result("20,19 min_kappa=0", -92.5)]
    grouped = report.groups(rows)
    pairs = [(("20,19", "implicit"), ("20,19", "rsvi")), (("20,19 min_kappa=0", "implicit"), ("20,19", "implicit"))]
    first, second = report.differences(grouped, pairs).splitlines()[2:]
    assert first == "| 20,19 | implicit | 20,19 | rsvi | 2 | +1.50 | +1.50 | +1.50 | +0.00 |"
    assert second.startswith("| 20,19 min_kappa=0 | implicit | 20,19 | implicit | 1 | +0.50 |")
    assert report.differences(grouped, [(("40", "implicit"), ("20,19", "implicit"))]) == ""


def test_report_shows_the_tables_and_every_figure(folders, tmp_path, capsys):
    table2.main([*SMALL, *folders, "--rows", "20,19", "38,1", "3,1,1", table2.TORUS])
    table2.main([*SMALL, *folders, "--rows", table2.TORUS, "--gradient", "rsvi"])
    table2.main([*SMALL, *folders, "--rows", "20,20", "--fixed-dof"])
    table2.main([*SMALL, *folders, "--rows", "38,1 min_kappa=0"])
    capsys.readouterr()
    results = tmp_path / "results"
    (results / "notes_digits.md").write_text("Written by hand.")
    report.main(["--dataset", "digits", *folders])
    assert capsys.readouterr().out.strip() == str(results / "report_digits.md")
    text = (results / "report_digits.md").read_text()
    assert "| 20,20 |" in text and "| 1×20 | rsvi |" in text
    assert "| 1×20 | implicit | 1×20 | rsvi | 1 |" in text and "| 38,1 min_kappa=0 | implicit | 38,1 |" in text
    assert text.count("**A product of spheres") == 0 and text.count("**Too many breaks hurt.**") == 1
    assert text.endswith("## Notes\n\nWritten by hand.\n")
    figures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert figures == ["kl.png", "shells_digits.png", "torus_digits.png", "circles_digits.png"]
    for figure in figures:
        pixels = image.imread(results / figure)
        assert min(pixels.shape[:2]) > 100 and pixels[..., :3].std() > 0.01


def test_a_report_on_nothing_is_an_error(folders):
    with pytest.raises(SystemExit, match="table2_digits.csv"):
        report.main(["--dataset", "digits", *folders])


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
