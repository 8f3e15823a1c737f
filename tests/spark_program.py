"""Reads a lake with Spark, in a process of its own: `road table files answer`.

Ends with 3, saying what is missing, where Spark has no jar of Delta Lake.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyspark
from pyspark.sql import SparkSession


def delta_jar() -> bool:
    """Whether Spark finds Delta Lake among its jars."""
    home = os.environ.get("SPARK_HOME") or str(Path(pyspark.__file__).parent)
    return any(Path(home, "jars").glob("delta-spark*.jar"))


def main(road: str, table: str, files: str, answer: str) -> int:
    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
    )
    if road == "delta":
        if not delta_jar():
            print("Spark has no jar of Delta Lake (io.delta:delta-spark, from Maven)")
            return 3
        builder = builder.config(
            "spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"
        ).config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    spark = builder.getOrCreate()
    try:
        if road == "delta":
            rows = spark.read.format("delta").load(table)
        else:
            named = Path(files).read_text().splitlines()
            rows = spark.read.option("basePath", table).parquet(*named)
        assert "month" in rows.columns
        with Path(answer).open("w") as out:
            for row in rows.collect():
                out.write(json.dumps(row.asDict(), default=_as_json) + "\n")
    finally:
        spark.stop()
    return 0


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):  # naive, in the zone of this process, which is UTC
        return f"{value.isoformat()}+00:00"
    return list(value) if isinstance(value, bytearray) else str(value)


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    sys.exit(main(*sys.argv[1:]))
