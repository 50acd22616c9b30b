"""The alert rules and the dashboard in config/, parsed from their files."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((ROOT / "config/prometheus/alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "config/grafana/atlas.json").read_text(encoding="utf-8"))
