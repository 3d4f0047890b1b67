"""What can be read off the CUDA kernels' PTX and off the assembler's report, without running them."""

import pytest
from cuda_on_ptx import nvcc

from scripts.cuda_registers import kernel_resources

pytestmark = pytest.mark.skipif(nvcc.find() is None, reason="no nvcc")
every_source = pytest.mark.parametrize("source", nvcc.SOURCES, ids=lambda source: source.name)


@every_source
def test_no_object_in_device_memory_starts_without_a_value(source):
    """nvcc leaves `static constexpr Table<...> t;` in a function as zeros, without a word; `t{}` it fills."""
    assert nvcc.uninitialised(nvcc.ptx(source).read_text()) == []


@every_source
def test_no_kernel_has_a_stack_or_spills_registers(source):
    resources = kernel_resources(nvcc.assembler_report(nvcc.ptx(source)))
    assert len(resources) == nvcc.ptx(source).read_text().count(".entry")
    assert {kernel: use for kernel, use in resources.items() if use.stack or use.spilled} == {}


def test_an_object_without_a_value_is_found():
    text = """
.version 9.0
.extern .shared .align 16 .b8 shared[];
.global .align 8 .b8 filled[16] = {0, 0, 0, 0, 0, 0, 248, 63, 0, 0, 0, 0, 0, 0, 4, 64};
.global .align 8 .b8 empty[160];
.const .align 4 .f32 number = 0f3F800000;
	.visible .const .align 4 .b8 constants[8]; // = a remark
.visible .entry kernel(.param .u64 at)
{
	ld.global.f64 	%fd1, [%rd1];
}
"""
    assert nvcc.uninitialised(text) == [".global .align 8 .b8 empty[160]", ".visible .const .align 4 .b8 constants[8]"]
