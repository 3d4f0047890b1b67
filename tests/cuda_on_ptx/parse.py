"""PTX text as kernels of instructions: what a module declares, and nothing of what it means."""

import dataclasses
import pathlib
import re

import numpy as np

SPACES = r"(?:\.(?:visible|extern|weak|common)\s+)*"
DECLARATION = re.compile(
    SPACES + r"\.(?P<space>global|const|shared)\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+(?P<name>[\w$]+)"
    r"(?P<count>\[\d*\])?\s*(?:=\s*(?P<values>.*))?$",
    flags=re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """[@[!]guard] opcode operands: the opcode split at its points, the operands as text."""

    text: str
    opcode: tuple
    operands: tuple
    guard: str | None
    negated: bool


@dataclasses.dataclass
class Kernel:
    name: str
    parameters: dict  # name -> (offset, size) in the launch's parameter bytes
    parameter_bytes: int
    registers: dict  # prefix of the names, or a name -> bits, 1 of a predicate
    code: list
    labels: dict  # name -> index into code
    shared: dict  # static arrays: name -> (offset, size)
    shared_bytes: int  # of them
    threads: int | None  # the most in a block, as declared
    program: object = None  # execution.py's

    def bits(self, register):
        """The width of a register."""
        return self.registers.get(register) or self.registers[register.rstrip("0123456789")]


class Module:
    """A PTX file: `kernels` by name; `globals`, name -> bytes; `dynamic`, the names of extern shared arrays."""

    def __init__(self, path):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", pathlib.Path(path).read_text(), flags=re.DOTALL)
        self.globals, self.dynamic, self.kernels, static = {}, set(), {}, []
        outside, bodies = split(text)
        outside = re.sub(r"^\.(version|target|address_size)\s.*$", "", outside, flags=re.MULTILINE)
        for statement in outside.split(";"):
            if declared := DECLARATION.match(statement.strip()):
                self.declare(declared, static)
        for head, body in bodies:
            kernel = parse_kernel(head, body, static)
            self.kernels[kernel.name] = kernel

    def declare(self, declared, static):
        if declared["space"] != "shared":
            self.globals[declared["name"]] = initial_bytes(declared)
        elif declared["count"] == "[]":
            self.dynamic.add(declared["name"])
        else:
            static.append(declared)


def split(text):
    """The text outside of kernels, and (head, body) of each."""
    outside, bodies, end = [], [], 0
    for entry in re.finditer(SPACES + r"\.entry\s", text):
        begin = text.index("{", entry.end())
        depth = 0
        for brace in re.compile("[{}]").finditer(text, begin):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                break
        outside.append(text[end : entry.start()])
        bodies.append((text[entry.end() : begin], text[begin + 1 : brace.start()]))
        end = brace.end()
    return "".join([*outside, text[end:]]).replace("}", ";"), bodies


def type_bytes(name):
    return int(name.lstrip("bfsu")) // 8


def initial_bytes(declared):
    """A global's value, of zeros where there is none."""
    size, count = type_bytes(declared["type"]), int((declared["count"] or "[1]")[1:-1])
    data = np.zeros(count, f"u{size}")
    if declared["values"]:
        values = declared["values"].strip("{} \n\t").split(",")
        data[: len(values)] = [number(value.strip()) & (1 << 8 * size) - 1 for value in values]
    return data.view(np.uint8)


def number(text):
    """An immediate operand's bits, as an integer."""
    if text[:2] in ("0f", "0F", "0d", "0D"):
        return int(text[2:], 16)
    return int(text.rstrip("U"), 0)


def lay_out(sizes):
    """name -> (offset, size), and the whole size, of (name, size, alignment) one after another."""
    at, end = {}, 0
    for name, size, align in sizes:
        end = -(-end // align) * align
        at[name] = end, size
        end += size
    return at, end


def parse_kernel(head, body, static):
    name, parameters = re.match(r"\s*([\w$]+)\s*\((.*)\)", head, flags=re.DOTALL).groups()
    pointer = r"(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?"
    pattern = r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+" + pointer + r"([\w$]+)(?:\[(\d+)\])?"
    sizes = []
    for align, kind, parameter, count in re.findall(pattern, parameters):
        size = type_bytes(kind) * int(count or 1)
        sizes.append((parameter, size, int(align or size)))
    threads = re.search(r"\.maxntid\s+(\d+)", head)
    at, end = lay_out(sizes)
    registers, code, labels, arrays = {}, [], {}, list(static)
    for statement in re.sub(r"(\$[\w$]+):", r"; \1:;", body).split(";"):
        statement = statement.lstrip("{} \n\t").rstrip()  # braces here are scopes of names, which are never reused
        if not statement or statement.startswith(".pragma"):
            continue
        if statement.endswith(":"):
            labels[statement[:-1]] = len(code)
        elif declared := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement, flags=re.DOTALL):
            bits = 1 if declared[1] == "pred" else 8 * type_bytes(declared[1])
            registers |= {re.sub(r"<\d+>", "", name.strip()): bits for name in declared[2].split(",")}
        elif declared := DECLARATION.match(statement):
            arrays.append(declared)
        else:
            code.append(parse_instruction(statement))
    used = " ".join(instruction.text for instruction in code) if arrays else ""
    shared = [
        (a["name"], type_bytes(a["type"]) * int((a["count"] or "[1]")[1:-1]), int(a["align"] or type_bytes(a["type"])))
        for a in arrays
        if a["name"] in used
    ]
    shared, shared_bytes = lay_out(shared)
    return Kernel(name, at, end, registers, code, labels, shared, shared_bytes, threads and int(threads[1]))


def parse_instruction(text):
    text = " ".join(text.split())
    negated, guard, opcode, operands = re.match(r"(?:@(!?)(%\w+) )?([\w.:]+) ?(.*)$", text).groups()
    split = re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", operands)
    return Instruction(text, tuple(opcode.split(".")), tuple(o.strip() for o in split), guard, negated == "!")
