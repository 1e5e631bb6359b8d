"""Does the collapse doctor name forced collapses, and say nothing of healthy runs?

A collapse is forced by a discriminator with 100 times the generator's learning rate, which should
be named within 200 steps. Healthy runs are the models as they are, or of `--channels` and
`--batch-size`. Each is trained in several seeds on Fashion-MNIST; runs that the result holds
already are not done again, so a list of models can be completed by and by.

    python benchmarks/doctor.py --models dcgan --steps 4000 --out benchmarks/results/doctor.json
"""

import json
import tempfile
import time
from pathlib import Path

import measure

FACTOR, WITHIN = 100, 200  # the learning rate of a forced collapse, and steps to name it in
HEALTHY = ("dcgan", "lsgan", "wgan", "wgan-gp", "hinge", "r1", "pacgan", "cgan")


def main():
    parser = measure.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=HEALTHY, help="healthy ones")
    parser.add_argument("--forced", nargs="*", default=["dcgan"], help="those to collapse")
    parser.add_argument("--steps", type=int, default=1000, help="of healthy runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--channels", type=int, help="of the networks (default: the model's)")
    parser.add_argument("--batch-size", type=int, help="default: the model's")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--out", type=Path, help="a JSON file to add to")
    measure.add_device(parser)
    args = parser.parse_args()
    measure.start(args)
    measure.check_device(args.device)
    result = {**measure.header(args.device), "threads": args.threads, "runs": []}
    if args.out is not None and args.out.exists():
        result["runs"] = json.loads(args.out.read_text())["runs"]
    for forced, models in ((True, args.forced), (False, args.models)):
        for model in models:
            for seed in range(args.seeds):
                wanted = plan(model, seed, forced, args)
                if not any(wanted.items() <= run.items() for run in result["runs"]):
                    run = {**wanted, **watched(wanted, args.device)}
                    result = added(run, result, args.out)
    measure.show(result, args, table)


def added(run, result, path):
    """The result with one more run, which is written where there is a path, with all runs there."""
    change = lambda known: {**result, "runs": [*known.get("runs", []), run]}
    return change(result) if path is None else measure.update_json(path, change)


def plan(model, seed, forced, args):
    """What determines a run."""
    from minigen.train.registry import model_class

    sizes = {"channels": args.channels, "batch_size": args.batch_size}
    options = {name: value for name, value in sizes.items() if value is not None}
    if forced:
        options["discriminator_lr"] = FACTOR * model_class(model).Options().lr
    steps = WITHIN if forced else args.steps
    return {"model": model, "data": args.data, "forced": forced, "options": options,
            "steps": steps, "seed": seed}  # fmt: skip


def watched(wanted, device):
    """What the doctor found in a run, and the share of the time that looking took."""
    from minigen.nn.doctor import Doctor
    from minigen.train import fit

    looking, examine = [0.0], Doctor.examine

    def timed(self, *given):
        begin = time.perf_counter()
        found = examine(self, *given)
        looking[0] += time.perf_counter() - begin
        return found

    Doctor.examine = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = fit(
                wanted["model"], data=wanted["data"], steps=wanted["steps"], seed=wanted["seed"],
                options=wanted["options"], device=device, out=Path(folder) / "run",
                sample_every=wanted["steps"], checkpoint_every=wanted["steps"],
                on_collapse="warn",
            )  # fmt: skip
            findings = run.directory.findings()
            lines = run.directory.read_metrics()
    finally:
        Doctor.examine = examine
    diversity = [line["health"].get("diversity", 1.0) for line in lines if "health" in line][-1]
    seconds = lines[-1]["seconds"]
    return {"named": findings[0]["step"] if findings else None, "findings": findings,
            "diversity": round(diversity, 3), "seconds": round(seconds, 1),
            "share_looking": round(looking[0] / seconds, 4)}  # fmt: skip


def table(result):
    """Lines of text: a run each."""
    yield f"{'model':10} {'':8} {'seed':>4} {'steps':>6} {'looking':>8}  found"
    for run in result["runs"]:
        kind = "forced" if run["forced"] else "healthy"
        found = ", ".join(f"{each['name']} at {each['step']}" for each in run["findings"]) or "-"
        yield (
            f"{run['model']:10} {kind:8} {run['seed']:4} {run['steps']:6}"
            f" {run['share_looking']:8.1%}  {found}"
        )
    forced = [run for run in result["runs"] if run["forced"]]
    healthy = [run for run in result["runs"] if not run["forced"]]
    named = sum(run["named"] is not None for run in forced)
    alarms = sum(run["named"] is not None for run in healthy)
    yield f"{named} of {len(forced)} forced collapses named, {alarms} alarms in {len(healthy)} runs"


if __name__ == "__main__":
    main()
