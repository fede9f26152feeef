"""``foundry demo-data``: fetch the optional files, a detector and an independent art set, into the user's cache."""

from __future__ import annotations

from orchestration.command.output import console, errors, print_rows


def run(*, as_json: bool) -> None:
    """Fetch what is not there yet and say where it lies, under which licence, and what it is for."""
    from evaluation.perception.downloads import PAYLOADS, cache_folder, fetch

    rows = []
    for payload in PAYLOADS.values():
        paths = fetch(payload, log=lambda line: errors.print(line, highlight=False))
        rows.append(
            {
                "name": payload.name,
                "what": payload.about,
                "from": payload.package,
                "license": payload.license,
                "files": ", ".join(str(path.relative_to(cache_folder())) for path in paths.values()),
            }
        )
    print_rows(rows, as_json=as_json, title="foundry demo-data")
    if not as_json:
        console.print(f"In {cache_folder()}.", highlight=False, soft_wrap=True)
        console.print(
            "Use them in a profile: perception.models with family: nanodet, or art: fluent of an embedded model."
        )
