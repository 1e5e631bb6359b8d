"""What the parts of gpu_check.py printed, understood, and written as JSON and Markdown."""

import json
import statistics

HOST_US, BANDWIDTH, TFLOPS = 10, 0.7, 100  # what a launch, memory-bound kernels, products should do


def understood(name, code, printed, said):
    """{"status": passed, failed or left out; "note": why; "rows" or "document"} of a process."""
    last = [line for line in said.splitlines() if line.strip()][-1:] or [""]
    found = {"status": "passed" if code == 0 else "failed", "note": ""}
    if name in ("errors", "gradients", "replays", "training"):
        rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        failed = [row for row in rows if not row["passed"]]
        found.update(
            count=len(rows), failed=failed, note=f"{len(rows) - len(failed)} of {len(rows)}"
        )
        if name == "training":
            found["rows"] = rows
        if code == "timeout" or (code != 0 and not failed):
            found["note"] += f"; then {'its time was over' if code == 'timeout' else last[0]}"
    elif name in ("steps", "compiled", "kernels", "losses", "convolutions"):
        try:
            found["document"] = json.loads(printed)
        except ValueError:
            found["note"] = "its time was over" if code == "timeout" else last[0]
    elif "No module named pytest" in said:
        found.update(status="left out", note="pytest is not installed")
    else:
        lines = [line for line in printed.splitlines() if line.strip()][-1:] or last
        found["note"] = "its time was over" if code == "timeout" else lines[0]
    return found


def write(report, out):
    """gpu_check.json and gpu_check.md, and the results of benchmarks that ran."""
    (out / "gpu_check.json").write_text(json.dumps(_slim(report), indent=1) + "\n")
    for name, key, file in (
        ("steps", "workloads", "train_step-cuda.json"),
        ("compiled", "workloads", "train_step-cuda-compile.json"),
        ("kernels", "rows", "kernels-cuda.json"),
        ("convolutions", "rows", "shapes-cuda.json"),
    ):
        documents = _documents(report, name)
        if documents:
            merged = {**documents[0], key: [row for each in documents for row in each[key]]}
            merged["command"] = report["command"]
            (out / file).write_text(json.dumps(merged, indent=1) + "\n")
    (out / "gpu_check.md").write_text("\n".join(markdown(report)) + "\n")


def _slim(report):
    """Without the documents that have files of their own."""
    own = ("steps", "compiled", "kernels", "convolutions")
    parts = [
        {k: v for k, v in part.items() if not (k == "document" and part["name"] in own)}
        for part in report["parts"]
    ]
    return {**report, "parts": parts}


def _documents(report, name):
    return [p["document"] for p in report["parts"] if p["name"] == name and "document" in p]


def markdown(report):
    """The lines of a page for people."""
    where = f"{report.get('gpu', 'GPU')}, {report.get('driver', '')}, CuPy {report.get('cupy', '')}"
    yield f"# {where}, {report['date']}, commit {report['commit']}"
    yield f"\n`{report['command']}`, {report.get('seconds', 0):.0f} s, on {report['machine']}.\n"
    yield "| part | | seconds | |"
    yield "| --- | --- | --- | --- |"
    for part in report["parts"]:
        yield f"| {part['name']} | {part['status']} | {part['seconds']:.0f} | {_cell(part)} |"
    yield from _failures(report)
    yield from _training(report)
    yield from _steps(report)
    yield from _convolutions(report)
    yield from _kernels(report)


def _cell(part):
    words = part["command"].split()
    at = words.index("--workload" if "--workload" in words else "--only") + 1 \
        if {"--workload", "--only"} & set(words) else None  # fmt: skip
    return f"{words[at] + ' ' if at else ''}{part['note']}".replace("|", "/")[:200]


def _failures(report):
    rows = [(part["name"], row) for part in report["parts"] for row in part.get("failed", ())]
    rows += [
        ("losses", {"name": each["workload"], **each["float32"][0]})
        for document in _documents(report, "losses")
        for each in document["workloads"] if not each["agree"]
    ]  # fmt: skip
    rows += [
        ("kernels", {"name": r["kernel"], "note": r.get("failed", f"error {r.get('error')}")})
        for document in _documents(report, "kernels")
        for r in document["rows"]
        if "failed" in r or not r["error"] <= (2e-3 if r["precision"] == "tf32" else 1e-4)
    ]
    if rows:
        yield f"\n## What failed ({len(rows)})\n"
    for name, row in rows[:60]:
        yield f"- {name}: {json.dumps(row, default=str)[:400]}"


def _training(report):
    rows = [
        row
        for part in report["parts"]
        if part["name"] == "training"
        for row in part.get("rows", ())
    ]
    if rows:
        yield "\n## DCGAN on the GPU and on the CPU\n"
    for row in rows:
        yield f"- {json.dumps(row)}"


def _steps(report):
    compiled = {
        row["workload"]: row for d in _documents(report, "compiled") for row in d["workloads"]
    }
    rows = [row for document in _documents(report, "steps") for row in document["workloads"]]
    if not rows:
        return
    yield "\n## Training steps: ratio above 1, minigen is faster\n"
    yield "| workload | minigen, ms | not captured | PyTorch, ms | ratio | CUDA graph | ratio |" \
        " torch.compile | ratio |"  # fmt: skip
    yield "| --- " * 9 + "|"
    ratios = {"eager": [], "CUDA graph": [], "torch.compile": []}
    for row in rows:
        graph = next(iter(row.get("others", ())), None)
        cells = [row["workload"], f"{row['minigen_ms']:.3f}", f"{row['minigen_eager_ms']:.3f}"]
        for label, peer in zip(ratios, (row, graph, compiled.get(row["workload"])), strict=True):
            if peer is None:
                cells += ["-", "-"]
                continue
            ratios[label].append(peer["ratio"])
            cells += [f"{peer['peer_ms']:.3f}", f"{peer['ratio']:.2f}"]
        yield f"| {' | '.join(cells)} |"
    for label, found in ratios.items():
        if found:
            mean = statistics.geometric_mean(found)
            yield f"\n{label}: geometric mean {mean:.2f}, lowest {min(found):.2f}"


def _convolutions(report):
    rows = [row for document in _documents(report, "convolutions") for row in document["rows"]]
    if not rows:
        return
    yield "\n## Large convolutions against cuDNN, both in TF32\n"
    yield "| convolution | | minigen, ms | TFLOP/s | PyTorch, ms | ratio | error |"
    yield "| --- " * 7 + "|"
    for r in rows:
        yield (
            f"| {r['shape']} | {r['operation']} | {r['minigen_ms']:.3f} | {r['gflops'] / 1e3:.0f} |"
            f" {r['peer_ms']:.3f} | {r['ratio']:.2f} | {r['error']:.0e} |"
        )


def _kernels(report):
    documents = _documents(report, "kernels")
    rows = [row for document in documents for row in document["rows"] if "failed" not in row]
    if not rows:
        return
    limits = documents[0]["limits"]
    products = [row for row in rows if row["gflops"]]
    yield "\n## Kernels\n"
    yield f"- copy: {limits['gbs']:.0f} GB/s; limits: {json.dumps(limits)}"
    yield f"- host time of a launch: {limits['launch_us']:.1f} us (at most {HOST_US})"
    for precision in ("tf32", "float32"):
        best = [r for r in products if r["precision"] == precision]
        if best:
            top = max(best, key=lambda r: r["gflops"])
            yield (
                f"- fastest product in {precision}: {top['gflops'] / 1e3:.0f} TFLOP/s,"
                f" {top['kernel']} {top['shapes']} (tf32 should reach {TFLOPS})"
            )
    slow = [r for r in rows if not r["gflops"] and r["gbs"] < BANDWIDTH * limits["gbs"]]
    yield f"- memory-bound kernels below {BANDWIDTH:.0%} of the copy: {len(slow)}"
    yield "\n| kernel | arrays | ms | TFLOP/s | GB/s | of the limit | error | host us | launches |"
    yield "| --- " * 9 + "|"
    for r in rows:
        tflops = f"{r['gflops'] / 1e3:.1f}" if r["gflops"] else "-"
        yield (
            f"| {r['kernel']} {r['precision'] or ''} | {r['shapes']} | {r['ms']:.4f} | {tflops} |"
            f" {r['gbs']:.0f} | {r['fraction']:.0%} | {r['error']:.0e} | {r['host_us']:.1f} |"
            f" {r['launches']} |"
        )
