"""What every asset's definition shares: options from the step table, typed run config, one form of result."""

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dagster as dg
import pyarrow as pa
from pydantic import Field

from assets.graph.columns import COLUMN_SOURCES
from assets.graph.interfaces import Models, Store
from assets.graph.steps import STEPS
from assets.graph.versions import GateResult, Manifest, Provenance
from training.errors import FoundryError

OWNERS = ["team:foundry"]


class DerivedConfig(dg.Config):
    """Settings that every asset has whose rows a model makes."""

    retry_failed: bool = Field(
        False, description="try samples again that failed before; changes nothing else"
    )


def settings(config: dg.Config) -> dict[str, Any]:
    """The settings that change results, as they stand in a provenance."""
    return config.model_dump(exclude={"retry_failed"})


def with_defaults(base: type[dg.Config], values: Mapping[str, Any]) -> type[dg.Config]:
    """``base`` with the profile's values as defaults, so that the Launchpad shows what will really run.

    Raises KeyError on a field that ``base`` lacks; the profile's loader turns that into a sentence.
    """
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name not in base.model_fields:
            raise KeyError(name)
        field = base.model_fields[name]._copy()
        field.default = value
        fields[name] = field
    annotations = {name: base.model_fields[name].annotation for name in values}
    body = {**fields, "__annotations__": annotations, "__module__": base.__module__, "__doc__": base.__doc__}
    return types.new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(body))


def build_asset(
    body: Callable[..., Any],
    config: type[dg.Config],
    *,
    partitions: dg.PartitionsDefinition | None = None,
    checks: Sequence[dg.AssetCheckSpec] = (),
    automation: dg.AutomationCondition | None = None,
    pool: str | None = None,
    mappings: Mapping[str, dg.PartitionMapping] | None = None,
) -> dg.AssetsDefinition:
    """The asset whose name is the body's, with everything the step table says of it.

    ``body`` is a module-level function with a ``config`` parameter; its docstring is the description a
    newcomer reads on the asset page. ``mappings`` says by name which partitions of an input a partition reads, where
    that is not the rule of equal keys.
    """
    step = STEPS[body.__name__]

    @functools.wraps(body)
    def bound(*args: Any, **kwargs: Any) -> Any:
        models = kwargs.get("models") if step.group == "models" else None
        try:
            with _threads(models):
                return body(*args, **kwargs)
        except FoundryError as error:  # a mistake that a user mends: retrying it would only repeat it
            raise dg.Failure(description=str(error), allow_retries=False) from error

    bound.__annotations__ = {**body.__annotations__, "config": config}
    signature = inspect.signature(body)
    parameters = [
        parameter.replace(annotation=bound.__annotations__[name])
        for name, parameter in signature.parameters.items()
    ]
    bound.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return dg.asset(
        name=step.name,
        group_name=step.group,
        kinds=set(step.kinds),
        owners=OWNERS,
        code_version=str(step.function_version),
        deps=[
            *step.after,
            *(dg.AssetDep(name, partition_mapping=(mappings or {}).get(name)) for name in step.reads),
        ],
        partitions_def=partitions,
        check_specs=list(checks) or None,
        automation_condition=automation,
        pool=pool,
    )(bound)


def _threads(models: Models | None) -> AbstractContextManager[None]:
    """What models compute in the step itself takes the profile's threads: two runs that spin on two cores take many
    times as long."""
    if models is None:
        return nullcontext()
    from training.hardware import torch_threads

    return torch_threads(models.resources.threads)


def check_spec(asset: str, name: str, description: str, *, blocking: bool) -> dg.AssetCheckSpec:
    """Specification of a check that the asset itself reports when it is materialized."""
    return dg.AssetCheckSpec(name=name, asset=asset, description=description, blocking=blocking)


def check_result(
    name: str, passed: bool, findings: Mapping[str, Any], *, blocking: bool = True
) -> dg.AssetCheckResult:
    """A check's outcome with its findings as metadata."""
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, metadata=dict(findings))


def gate_check(name: str, gate: GateResult) -> dg.AssetCheckResult:
    """The check that displays the very record which readers of the version obey."""
    return check_result(name, gate.passed, gate.findings)


def gate_checks(gates: Mapping[str, GateResult], warn: Collection[str] = ()) -> list[dg.AssetCheckResult]:
    """The checks that display gates, by name of the check; those in ``warn`` stop nothing."""
    return [
        check_result(name, gate.passed, gate.findings, blocking=name not in warn)
        for name, gate in gates.items()
    ]


def materialized(
    store: Store,
    manifest: Manifest,
    metadata: Mapping[str, Any] | None = None,
    checks: Iterable[dg.AssetCheckResult] = (),
    schema: pa.Schema | None = None,
) -> dg.MaterializeResult:
    """The result of an asset: row count, place, digest, what it was made from, and what the caller adds."""
    rows: dict[str, Any] = {}
    if manifest.num_rows is not None:
        name = "dagster/row_count" if manifest.partition is None else "dagster/partition_row_count"
        rows[name] = manifest.num_rows
    if schema is not None:
        rows["dagster/column_schema"] = column_schema(schema)
    if manifest.name in COLUMN_SOURCES:
        rows["dagster/column_lineage"] = column_lineage(manifest.name)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(manifest.digest),
        metadata={
            **rows,
            **(metadata or {}),
            "dagster/uri": store.address(manifest),
            "address": dg.MetadataValue.path(store.address(manifest)),
            "digest": manifest.digest,
            "size_bytes": sum(file.size_bytes for file in manifest.files),
            "function_version": manifest.provenance.function_version,
            "config": dg.MetadataValue.json(dict(manifest.provenance.config)),
        },
        check_results=list(checks),
    )


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """A table's columns with types and the meaning that the schema's field metadata states."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=str(field.type),
                description=(field.metadata or {}).get(b"description", b"").decode(),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def column_lineage(table: str) -> dg.TableColumnLineage:
    """From which columns of other assets each column is made; the asset page draws it."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(source.table), source.column) for source in sources]
            for column, sources in COLUMN_SOURCES[table].items()
            if sources
        }
    )


def picture(jpeg: bytes, caption: str = "") -> dg.MarkdownMetadataValue:
    """A small picture inline on the asset page. ``jpeg`` stays in the event log for ever: keep it small."""
    import base64
    import html

    data = base64.b64encode(jpeg).decode()
    return dg.MetadataValue.md(f"![{html.escape(caption)}](data:image/jpeg;base64,{data})")


def keep_figures(store: Store, name: str, figures: Mapping[str, bytes], provenance: Provenance) -> str:
    """Figures by file name, stored in full as a folder version of their own; returns where they are."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="foundry-figures-") as scratch:
        for file, data in figures.items():
            (Path(scratch) / file).write_bytes(data)
        return store.address(store.publish_folder(name, Path(scratch), provenance))
