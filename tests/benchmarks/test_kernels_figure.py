from syncattn.benchmarks.kernels_figure import kernels_figure
from syncattn.benchmarks.kernels_report import Row


def test_a_line_for_each_backend_in_both_panels():
    rows = [
        Row("selective", backend, n, 64, forward_seconds=1e-9 * n**2, both_seconds=3e-9 * n**2)
        for backend in ("blockwise", "triton")
        for n in (512, 1024)
    ]
    figure = kernels_figure([*rows, Row("softmax", "flash", 512, 64, refused="no")], title="here")
    assert len(figure.axes) == 2
    for axes in figure.axes:
        labels = [line.get_label() for line in axes.get_lines()]
        assert labels == ["selective, blockwise (N^2.00)", "selective, triton (N^2.00)"]
        assert axes.get_xscale() == axes.get_yscale() == "log"
    kernels_figure([], title="nothing ran")
