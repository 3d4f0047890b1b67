"""Memory that notices what a GPU lets pass: bounds, alignment, bytes that nobody wrote, and races.

Two accesses of different threads to one place, one of them a write, race unless a barrier that orders memory lies
between them: __syncwarp for threads of a warp, __syncthreads for those of a block. A shuffle or a vote orders nothing.
"""

import numpy as np

GRANULE = 4  # bytes that are watched together
MARGIN = 4096  # bytes around an array that belong to nothing else
NOBODY, ONE, WARP, BLOCK, GRID = range(5)  # how far apart the threads are that have read a granule


class Fault(Exception):
    """What no kernel may do."""


class Clock:
    """When the threads of a run last met: `now` counts instructions."""

    def __init__(self, warp_of, block_of):
        self.now = 0
        self.warp_of, self.block_of = warp_of, block_of
        self.warp_met = np.zeros(warp_of[-1] + 1, np.int64)
        self.block_met = np.zeros(block_of[-1] + 1, np.int64)

    def met(self, thread, other, stamp, spread=None):
        """Whether what `other` did at `stamp`, it or its like in its warp, block or grid, comes before thread's now."""
        warp, block = self.warp_of[thread], self.block_of[thread]
        in_warp = (self.warp_of[other] == warp) & (self.warp_met[warp] > stamp)
        in_block = (self.block_of[other] == block) & (self.block_met[block] > stamp)
        if spread is None:
            return (other == thread) | in_warp | in_block
        return np.select(
            [spread == NOBODY, spread == ONE, spread == WARP, spread == BLOCK],
            [True, (other == thread) | in_warp | in_block, in_warp | in_block, in_block],
            False,
        )


class Watch:
    """Who touched each granule of some bytes in a run, and when."""

    def __init__(self, size):
        count = -(-size // GRANULE)
        self.writer = np.full(count, -1, np.int64)
        self.written = np.zeros(count, np.int64)
        self.reader = np.full(count, -1, np.int64)
        self.read = np.zeros(count, np.int64)
        self.spread = np.zeros(count, np.int8)

    def write(self, at, thread, clock):
        """Raises Fault if another thread's read or write of granules `at` races with these."""
        self.after_write(at, thread, clock)
        if not clock.met(thread, self.reader[at], self.read[at], self.spread[at]).all():
            raise Fault("a race: a write of what another thread reads")
        self.writer[at] = thread
        if not (self.writer[at] == thread).all():
            raise Fault("a race: two threads write one place at once")
        self.written[at] = clock.now
        self.spread[at] = NOBODY

    def load(self, at, thread, clock):
        self.after_write(at, thread, clock)
        reader, spread = self.reader[at], self.spread[at]
        fresh = clock.met(thread, reader, self.read[at], spread)
        apart = np.where(clock.block_of[reader] != clock.block_of[thread], GRID, BLOCK)
        apart = np.where(clock.warp_of[reader] == clock.warp_of[thread], WARP, apart)
        apart = np.where(reader == thread, ONE, apart)
        spread = np.where(fresh, ONE, np.maximum(spread, apart))
        # Threads that read one granule in the same instruction: only one of them is kept as the reader.
        self.reader[at] = thread
        kept = self.reader[at]
        apart = np.where(clock.block_of[kept] != clock.block_of[thread], GRID, BLOCK)
        apart = np.where(clock.warp_of[kept] == clock.warp_of[thread], WARP, apart)
        spread = np.where(kept == thread, spread, np.maximum(spread, apart))
        self.spread[at] = ONE
        np.maximum.at(self.spread, at, spread.astype(np.int8))
        self.read[at] = clock.now

    def after_write(self, at, thread, clock):
        writer = self.writer[at]
        if not ((writer < 0) | clock.met(thread, writer, self.written[at])).all():
            raise Fault("a race: another thread writes this place")


class Bytes:
    """Bytes with bounds: [first, end) of `data` may be touched; `written` says which granules hold something."""

    def __init__(self, data, first=0, end=None, writable=True, written=False):
        self.data, self.first, self.end, self.writable = data, first, len(data) if end is None else end, writable
        self.written = np.full(-(-len(data) // GRANULE), written)
        self.watch = None

    def watched(self):
        if self.watch is None:
            self.watch = Watch(len(self.data))
        return self.watch

    def granules(self, at, size):
        """Of accesses of so many bytes at `at`; small ones share theirs."""
        return [(at + k) // GRANULE for k in range(0, size, GRANULE)]

    def check(self, at, size):
        if at.min() < self.first or at.max() + size > self.end:
            outside = at[(at < self.first) | (at + size > self.end)][0]
            raise Fault(f"byte {outside - self.first} of {self.end - self.first}, out of bounds")

    def load(self, at, dtype, thread, clock):
        size = dtype.itemsize
        self.check(at, size)
        for granule in self.granules(at, size) if self.writable else ():
            if not self.written[granule].all():
                raise Fault("a read of memory that nobody wrote")
            self.watched().load(granule, thread, clock)
        return self.data[: len(self.data) // size * size].view(dtype)[at // size]

    def store(self, at, values, thread, clock):
        size = values.dtype.itemsize
        self.check(at, size)
        if not self.writable:
            raise Fault("a write to an input")
        for granule in self.granules(at, size):
            self.watched().write(granule, thread, clock)
            self.written[granule] = True
        self.data[: len(self.data) // size * size].view(values.dtype)[at // size] = values


class Memory:
    """The device's memory: arrays at the addresses where they are on the host."""

    def __init__(self):
        self.arrays = {}  # address -> Bytes
        self.constants = {}  # name -> address of what modules declare

    def place(self, whole, first, size, writable, written):
        """Gives the device `size` bytes of an array of bytes, from `first` on; those around them it may not touch."""
        begin = -whole.ctypes.data % 16
        held = Bytes(whole[begin:], first - begin, first - begin + size, writable, written)
        self.arrays[held.data.ctypes.data] = held
        self.starts = np.array(sorted(self.arrays), np.int64)

    def constant(self, name, data):
        """The address of what a module declares."""
        if name not in self.constants:
            whole = np.zeros(len(data) + 3 * MARGIN, np.uint8)
            first = MARGIN + -whole.ctypes.data % 256
            whole[first : first + len(data)] = data
            self.place(whole, first, len(data), writable=False, written=True)
            self.constants[name] = whole.ctypes.data + first
        return self.constants[name]

    def begin_run(self):
        for held in self.arrays.values():
            held.watch = None

    def parts(self, address):
        """(array, which of the addresses, their places in it)."""
        index = np.searchsorted(self.starts, address, "right") - 1
        if index.min() < 0:
            raise Fault(f"address {address.min():#x}, where nothing is")
        if index.min() == index.max():
            start = self.starts[index[0]]
            return [(self.arrays[start], slice(None), address - start)]
        chosen = [(self.starts[i], index == i) for i in np.unique(index)]
        return [(self.arrays[start], which, address[which] - start) for start, which in chosen]

    def load(self, address, dtype, thread, clock):
        out = np.empty(len(address), dtype)
        for array, which, at in self.parts(address):
            out[which] = array.load(at, dtype, thread[which], clock)
        return out

    def store(self, address, values, thread, clock):
        for array, which, at in self.parts(address):
            array.store(at, values[which], thread[which], clock)


class Shared:
    """The shared memory of blocks from `first_block` on; each may use as many bytes of its own as its limit says."""

    def __init__(self, limits, first_block):
        self.limits, self.first_block = limits, first_block
        self.pitch = -(-int(max(limits, default=0)) // 16) * 16 + 16
        self.bytes = Bytes(np.full(self.pitch * len(limits), 0xCD, np.uint8))

    def at(self, offset, size, thread, clock):
        block = clock.block_of[thread] - self.first_block
        if (offset < 0).any() or (offset + size > self.limits[block]).any():
            raise Fault(f"byte {offset.max()} of {self.limits[block].min()} of shared memory, out of bounds")
        return block * self.pitch + offset

    def load(self, offset, dtype, thread, clock):
        return self.bytes.load(self.at(offset, dtype.itemsize, thread, clock), dtype, thread, clock)

    def store(self, offset, values, thread, clock):
        at = self.at(offset, values.dtype.itemsize, thread, clock)
        self.bytes.store(at, values, thread, clock)
