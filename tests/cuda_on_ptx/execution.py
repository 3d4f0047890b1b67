"""Runs kernels: every thread of every launch is a lane of NumPy arrays, and those furthest behind go first.

So threads that parted meet again where their paths do, as a warp's need to for a shuffle. Launches that do not depend
on each other run as one grid: the cost of an instruction is that of a NumPy call, however many threads take it.
"""

import dataclasses
import re

import numpy as np

from .instructions import TYPES, meaning
from .memory import Clock, Fault, Shared
from .parse import number

WARP = 32
# Address spaces that are not the device's memory begin where no host address lies.
PARAMETER, SHARED = 1 << 60, 1 << 61
WINDOW = 1 << 32
MOST_STEPS = 20_000_000
MOST_LANES = 1 << 14
PLACES = ("%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x", "%laneid")
BITS = {1: np.bool_, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@dataclasses.dataclass
class Launch:
    """grid, threads: blocks, and threads in each; parameters: bytes; off: which way approximations err (-1, 0, 1)."""

    grid: int
    threads: int
    shared: int
    parameters: bytes
    off: int = 0


class Lanes:
    """The threads that run on together, and their registers as arrays of these threads alone."""

    def __init__(self, run, thread):
        self.run, self.thread, self.id = run, thread, run.first + thread  # within the run, within the grid
        self.all = len(thread) == run.size
        self.held, self.changed = {}, set()

    def value(self, name):
        """(value, which threads have one, or True) of a register."""
        held = self.held.get(name)
        if held is None:
            held = self.held[name] = self.run.gather(name, self)
        return held

    def read(self, name):
        value, known = self.value(name)
        if known is not True and not known.all():
            raise Fault(f"{name} is read before it is written")
        return value

    def write(self, name, value, known=True):
        self.held[name] = value, known
        self.changed.add(name)

    def flush(self):
        for name in self.changed:
            self.run.scatter(name, self, *self.held[name])
        self.changed.clear()


class Grid:
    """Launches of one kernel, as if they were one: what is known of every thread before it runs."""

    def __init__(self, module, kernel, launches, memory):
        self.program, self.memory = Program.of(module, kernel), memory
        for launch in launches:
            if launch.threads % WARP or launch.threads > (kernel.threads or 1024) or launch.grid < 1:
                raise Fault(f"{launch.grid} blocks of {launch.threads} threads")
            if len(launch.parameters) != kernel.parameter_bytes:
                raise Fault(f"{len(launch.parameters)} bytes of parameters, not {kernel.parameter_bytes}")
        blocks = [launch.grid for launch in launches]
        self.launch = np.repeat(np.arange(len(launches)), blocks)  # of each block
        self.threads = np.repeat([launch.threads for launch in launches], blocks)
        self.shared = np.repeat([kernel.shared_bytes + launch.shared for launch in launches], blocks)
        self.number = np.concatenate([np.arange(count) for count in blocks])
        self.grids = np.repeat(blocks, blocks)
        self.first = np.cumsum([0, *self.threads])  # each block's first thread
        self.off = np.array([launch.off for launch in launches])
        self.parameters = np.array([np.frombuffer(launch.parameters, np.uint8) for launch in launches])
        block_of = np.repeat(np.arange(len(self.launch)), self.threads)
        self.clock = Clock(np.arange(len(block_of)) // WARP, block_of)
        declared = {name: data for name, data in module.globals.items() if name in self.program.names}
        self.constants = {name: memory.constant(name, data) for name, data in declared.items()}
        memory.begin_run()

    def go(self):
        """Some blocks after another, since arrays that fit a cache are the faster."""
        begin = 0
        while begin < len(self.launch):
            end = begin + 1
            while end < len(self.launch) and self.first[end + 1] - self.first[begin] <= MOST_LANES:
                end += 1
            Run(self, begin, end).go()
            begin = end


class Run:
    """Blocks [begin, end) of a grid."""

    def __init__(self, grid, begin, end):
        self.grid, self.program, self.memory, self.clock = grid, grid.program, grid.memory, grid.clock
        self.kernel = self.program.kernel
        self.first, self.size = grid.first[begin], grid.first[end] - grid.first[begin]
        block = self.clock.block_of[self.first : self.first + self.size]
        tid = np.arange(self.first, self.first + self.size) - grid.first[block]
        places = (tid, grid.number[block], grid.threads[block], grid.grids[block], tid % WARP)
        self.place = {name: value.astype(np.uint32) for name, value in zip(PLACES, places, strict=True)}
        self.of_launch = grid.launch[block]
        self.off = grid.off[self.of_launch]
        self.shared = Shared(grid.shared[begin:end], begin)
        # Values; which threads know theirs, or True; and those whose array no other register or step may hold.
        self.registers, self.known, self.own = {}, {}, set()
        self.at = np.zeros(self.size, np.int64)  # the instruction that each thread is to run

    # ---- Registers ----

    def gather(self, name, lanes):
        if name not in self.registers:
            bits = self.kernel.bits(name)
            self.registers[name], self.known[name] = np.zeros(self.size, BITS[bits]), np.zeros(self.size, bool)
        value, known = self.registers[name], self.known[name]
        if lanes.all:
            self.own.discard(name)
            return value, known
        return value[lanes.thread], known is True or known[lanes.thread]

    def scatter(self, name, lanes, value, known):
        if lanes.all:
            self.registers[name], self.known[name] = value, known
            self.own.discard(name)
            return
        if name not in self.own:
            before = self.registers.get(name)
            self.registers[name] = np.zeros(self.size, value.dtype) if before is None else before.copy()
            before = self.known.get(name, False)
            self.known[name] = before if before is True else np.copy(np.broadcast_to(before, self.size))
            self.own.add(name)
        self.registers[name][lanes.thread] = value
        if self.known[name] is not True:
            self.known[name][lanes.thread] = known
        elif known is not True:
            self.known[name] = np.ones(self.size, bool)
            self.known[name][lanes.thread] = known

    # ---- Control ----

    def go(self):
        steps = self.program.steps
        running = np.arange(self.size)
        while len(running):
            at = self.at[running]
            first = at.min()
            here = at == first
            waiting = np.min(at[~here], initial=len(steps))
            lanes = Lanes(self, running[here])
            self.follow(lanes, first, waiting)
            running = running[self.at[running] < len(steps)]

    def follow(self, lanes, at, waiting):
        """Runs these threads until they part, leave, or come to where others wait."""
        steps, code = self.program.steps, self.kernel.code
        try:
            while at < waiting:
                self.clock.now += 1
                if self.clock.now > MOST_STEPS:
                    raise Fault("it does not end")
                target = steps[at](self, lanes)
                if target is None:
                    at += 1
                    continue
                goes, to = target
                count = np.count_nonzero(goes)
                if count == len(lanes.thread):
                    at = to
                    if to == len(steps):
                        break
                elif count == 0:
                    at += 1
                else:
                    lanes.flush()
                    self.at[lanes.thread] = np.where(goes, to, at + 1)
                    return
        except (Fault, ZeroDivisionError) as fault:
            raise Fault(f"{fault}: {code[at].text}, instruction {at} of {self.kernel.name}") from None
        lanes.flush()
        self.at[lanes.thread] = at


def execute(module, kernel, launches, memory):
    """Runs those launches of a kernel of the module, none of which depends on another."""
    with np.errstate(all="ignore"):
        Grid(module, kernel, launches, memory).go()


class Program:
    """A kernel made ready to run: its instructions as functions, and the names in them."""

    @classmethod
    def of(cls, module, kernel):
        if kernel.program is None:
            kernel.program = cls(module, kernel)
        return kernel.program

    def __init__(self, module, kernel):
        self.kernel = kernel
        self.names = {name for instruction in kernel.code for name in re.findall(r"[\w$]+", instruction.text)}
        self.steps = [decode(module, kernel, instruction) for instruction in kernel.code]


# ---- Instructions as functions of (run, lanes), which return (which threads go, where to) or None ----


def decode(module, kernel, instruction):
    name, *modifiers = instruction.opcode
    if instruction.guard and name not in ("bra", "ret"):
        raise NotImplementedError(f"a guard: {instruction.text}")
    if name in ("bra", "ret"):
        return decode_jump(kernel, instruction)
    if name in ("ld", "st"):
        return decode_access(module, kernel, instruction)
    if name in ("shfl", "vote", "bar", "barrier"):
        return decode_exchange(module, kernel, instruction)
    if name == "cvta":
        base = SHARED if "shared" in modifiers else PARAMETER if "param" in modifiers else 0
        read = operand(module, kernel, instruction.operands[1], np.uint64)
        shift = np.uint64(0 if base == PARAMETER else base)  # a parameter's address has its base already
        back = "to" in modifiers
        return result(
            kernel, instruction.operands[0], lambda run, lanes: read(run, lanes) + (-shift if back else shift)
        )
    if name == "mov" and "{" in instruction.text:
        return decode_words(module, kernel, instruction)
    if name == "mov" and instruction.operands[1] in PLACES:
        return decode_place(kernel, instruction)
    if name == "mov" and instruction.operands[1].startswith("%"):
        # A copy of what is not known is allowed, as loops that the compiler has turned make them; its use is not.
        target, source = instruction.operands
        return lambda run, lanes: lanes.write(target, *lanes.value(source))
    found = meaning(instruction.opcode)
    target, *sources = instruction.operands
    reads = [operand(module, kernel, source, dtype) for source, dtype in zip(sources, found.sources, strict=True)]

    def compute(run, lanes):
        values = [read(run, lanes) for read in reads]
        if found.approximate:
            values.append(run.off[lanes.thread])
        return found.function(*values)

    return result(kernel, target, compute, found.result)


def decode_place(kernel, instruction):
    """mov of a thread's place in the grid."""
    target, place = instruction.operands
    return result(kernel, target, lambda run, lanes: run.place[place][lanes.thread], np.uint32)


def decode_jump(kernel, instruction):
    to = len(kernel.code) if instruction.opcode[0] == "ret" else kernel.labels[instruction.operands[0]]
    if not instruction.guard:
        return lambda run, lanes: (np.broadcast_to(True, len(lanes.thread)), to)
    guard, negated = instruction.guard, instruction.negated
    return lambda run, lanes: (lanes.read(guard) != negated, to)


def operand(module, kernel, text, dtype):
    """read(run, lanes) of a source as dtype: a register, a number, an address."""
    dtype = np.dtype(dtype)
    if text.startswith("%"):
        bits = kernel.bits(text)
        if dtype.kind == "b" or bits == 8 * dtype.itemsize:
            return lambda run, lanes: lanes.read(text).view(dtype)
        if bits < 8 * dtype.itemsize:  # an address of 32 bits
            return lambda run, lanes: lanes.read(text).astype(dtype)
        return lambda run, lanes: lanes.read(text).astype(f"u{dtype.itemsize}").view(dtype)
    if text in module.globals:
        return lambda run, lanes: dtype.type(run.grid.constants[text])
    if text in kernel.parameters:
        value = PARAMETER + kernel.parameters[text][0]
    elif text in kernel.shared:
        value = kernel.shared[text][0]
    elif text in module.dynamic:
        value = kernel.shared_bytes
    else:
        value = number(text)
    if dtype.kind == "b":
        constant = np.bool_(value)
    else:
        constant = np.array(value & (1 << 8 * dtype.itemsize) - 1, f"u{dtype.itemsize}").view(dtype)[()]
    return lambda run, lanes: constant


def result(kernel, target, compute, dtype=np.uint64):
    """A step that writes what compute(run, lanes) gives, of that dtype, to a register."""
    if target == "_":
        return lambda run, lanes: None
    bits = kernel.bits(target)
    register = np.dtype(BITS[bits])
    same = np.dtype(dtype).itemsize == register.itemsize

    def step(run, lanes):
        value = np.asarray(compute(run, lanes), dtype)
        if value.ndim == 0:
            value = np.full(len(lanes.thread), value)
        # A wider register takes a number's sign or zeros.
        lanes.write(target, value.view(register) if same else value.astype(f"i{register.itemsize}").view(register))

    return step


def decode_words(module, kernel, instruction):
    """mov between a register and a pair of half its width."""
    target, source = instruction.operands
    if target.startswith("{"):
        names = [name.strip() for name in target.strip("{}").split(",")]
        read = operand(module, kernel, source, np.uint64)

        def take_apart(run, lanes):
            words = np.ascontiguousarray(read(run, lanes)).view(np.uint32).reshape(-1, 2)
            for name, word in zip(names, words.T, strict=True):
                if name != "_":
                    lanes.write(name, np.ascontiguousarray(word))

        return take_apart
    reads = [operand(module, kernel, name.strip(), np.uint32) for name in source.strip("{}").split(",")]

    def join(run, lanes):
        low, high = (np.asarray(read(run, lanes), np.uint64) for read in reads)
        return low | high << np.uint64(32)

    return result(kernel, target, join)


def decode_access(module, kernel, instruction):
    """ld and st, of one number or a vector of them."""
    is_load = instruction.opcode[0] == "ld"
    modifiers = [m for m in instruction.opcode[1:] if m not in ("nc", "volatile", "relaxed", "weak")]
    dtype = np.dtype(TYPES[modifiers.pop()])
    place, numbers = instruction.operands[::-1] if is_load else instruction.operands
    numbers = [name.strip() for name in numbers.strip("{}").split(",")]
    count = int(modifiers.pop()[1:]) if modifiers and modifiers[-1] in ("v2", "v4") else 1
    space = modifiers.pop() if modifiers else "generic"
    if modifiers or count != len(numbers) or space not in ("generic", "global", "shared", "param", "const"):
        raise NotImplementedError(f"the PTX instruction {instruction.text}")
    base, offset = parse_address(place)
    base = operand(module, kernel, base, np.uint64)
    access = {"param": parameter, "shared": shared, "generic": generic}.get(space, device)
    size = dtype.itemsize

    def addresses(run, lanes):
        address = np.asarray(base(run, lanes)).astype(np.int64) + offset
        if address.ndim == 0:
            address = np.full(len(lanes.thread), address)
        if (address % (size * count)).any():
            raise Fault(f"an address not aligned to {size * count} bytes")
        return [address + k * size for k in range(count)]

    if is_load:
        writes = [result(kernel, name, lambda run, lanes: lanes.loaded, dtype) for name in numbers]

        def load(run, lanes):
            values = [access(run, lanes, address, dtype, None) for address in addresses(run, lanes)]
            for lanes.loaded, write in zip(values, writes, strict=True):
                write(run, lanes)

        return load
    reads = [operand(module, kernel, name, dtype) for name in numbers]

    def store(run, lanes):
        for address, read in zip(addresses(run, lanes), reads, strict=True):
            value = np.asarray(read(run, lanes))
            access(run, lanes, address, dtype, np.broadcast_to(value, len(lanes.thread)))

    return store


def parse_address(text):
    base, offset = text.strip("[] "), 0
    if "+" in base:
        base, offset = base.split("+")
    return base.strip(), int(offset)


def device(run, lanes, address, dtype, values):
    if values is None:
        return run.memory.load(address, dtype, lanes.id, run.clock)
    return run.memory.store(address, values, lanes.id, run.clock)


def shared(run, lanes, address, dtype, values):
    if values is None:
        return run.shared.load(address, dtype, lanes.id, run.clock)
    return run.shared.store(address, values, lanes.id, run.clock)


def parameter(run, lanes, address, dtype, values):
    at = address - PARAMETER
    if values is not None or at.min() < 0 or at.max() + dtype.itemsize > run.kernel.parameter_bytes:
        raise Fault(f"byte {at.max()} of {run.kernel.parameter_bytes} of the parameters")
    row = run.of_launch[lanes.thread]
    columns = [run.grid.parameters[row, at + k] for k in range(dtype.itemsize)]
    return np.stack(columns, axis=1).view(dtype)[:, 0]


def generic(run, lanes, address, dtype, values):
    """Each thread's in the space that its address says."""
    in_shared, in_parameters = address >= SHARED, (address >= PARAMETER) & (address < SHARED)
    out = np.empty(len(address), dtype)
    for access, base, which in ((shared, SHARED, in_shared), (parameter, 0, in_parameters)):
        if which.any():
            part = Part(lanes.thread[which], lanes.id[which])
            got = access(run, part, address[which] - base, dtype, None if values is None else values[which])
            if values is None:
                out[which] = got
    which = ~(in_shared | in_parameters)
    if which.any():
        part = Part(lanes.thread[which], lanes.id[which])
        got = device(run, part, address[which], dtype, None if values is None else values[which])
        if values is None:
            out[which] = got
    return out


@dataclasses.dataclass
class Part:
    """Some of the lanes, for an access of theirs alone."""

    thread: np.ndarray
    id: np.ndarray


# ---- Exchange within a warp, barriers ----


def decode_exchange(module, kernel, instruction):
    name, *modifiers = instruction.opcode
    if name == "vote" and modifiers == ["sync", "ballot", "b32"]:
        target, vote, mask = instruction.operands
        vote, mask = operand(module, kernel, vote, np.bool_), operand(module, kernel, mask, np.uint32)

        def ballot(run, lanes):
            rows, inside = warps(run, lanes, mask(run, lanes))
            votes = np.zeros((len(rows), WARP), np.uint64)
            votes[inside] = np.broadcast_to(vote(run, lanes), len(lanes.thread))
            bits = (votes << np.arange(WARP, dtype=np.uint64)).sum(axis=1).astype(np.uint32)
            return bits[inside[0]]

        return result(kernel, target, ballot, np.uint32)
    if name == "shfl" and modifiers[0] == "sync" and modifiers[1] in ("bfly", "idx", "up", "down"):
        return decode_shuffle(module, kernel, instruction, modifiers[1])
    if (name, *modifiers) == ("bar", "warp", "sync"):
        mask = operand(module, kernel, instruction.operands[0], np.uint32)

        def sync_warp(run, lanes):
            rows, _ = warps(run, lanes, mask(run, lanes))
            run.clock.warp_met[rows] = run.clock.now

        return sync_warp
    if modifiers in (["sync"], ["sync", "aligned"]) and instruction.operands == ("0",):
        return sync_block
    raise NotImplementedError(f"the PTX instruction {instruction.text}")


def warps(run, lanes, mask):
    """The warps that are here, and (which of them, lane) of each thread; the mask must name the threads that are."""
    warp = run.clock.warp_of[lanes.id]
    rows, row = np.unique(warp, return_inverse=True)
    lane = run.place["%laneid"][lanes.thread].astype(np.int64)
    here = np.zeros(len(rows), np.int64)
    np.add.at(here, row, 1 << lane)
    if (here[row] != mask).any():
        there = here[row][here[row] != mask][0]
        raise Fault(f"a warp is here with threads {there:#x} of its mask {int(np.max(mask)):#x}")
    return rows, (row, lane)


def decode_shuffle(module, kernel, instruction, how):
    target, *sources = instruction.operands
    target, _, inside_target = target.partition("|")
    value, step, bounds, mask = (operand(module, kernel, source, np.uint32) for source in sources)

    def shuffle(run, lanes):
        rows, (row, lane) = warps(run, lanes, mask(run, lanes))
        b = np.asarray(step(run, lanes)).astype(np.int64) & 31
        c = np.asarray(bounds(run, lanes)).astype(np.int64)
        segment, clamp = c >> 8 & 31, c & 31
        last = (lane & segment) | (clamp & ~segment)
        first = lane & segment
        if how == "idx":
            source = first | (b & ~segment)
        else:
            source = {"bfly": lane ^ b, "up": lane - b, "down": lane + b}[how]
        good = source >= last if how == "up" else source <= last
        source = np.where(good, source, lane)
        here = np.zeros((len(rows), WARP), bool)
        here[row, lane] = True
        if not here[row, source].all():
            raise Fault("a shuffle from a thread that is not there")
        values = np.zeros((len(rows), WARP), np.uint32)
        values[row, lane] = value(run, lanes)
        lanes.write(target, values[row, source])
        if inside_target:
            lanes.write(inside_target, good)

    return shuffle


def sync_block(run, lanes):
    blocks, here = np.unique(run.clock.block_of[lanes.id], return_counts=True)
    sizes = run.place["%ntid.x"][lanes.thread][np.searchsorted(run.clock.block_of[lanes.id], blocks)]
    if (here != sizes).any():
        raise Fault(f"a block is at a barrier with {here.min()} of its {sizes.max()} threads")
    run.clock.block_met[blocks] = run.clock.now
