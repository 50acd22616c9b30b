# Development commands. They use .venv, which `just setup` creates.

set positional-arguments
export PYTEST_DEBUG_TEMPROOT := if path_exists("/dev/shm") == "true" { "/dev/shm" } else { "" }
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

# list the commands
_default:
    @just --list --unsorted

# create .venv with everything, at the locked versions
setup:
    python3 -m venv .venv
    python -m pip install --quiet --require-hashes -r config/requirements-dev.txt
    python -m pip install --quiet --no-deps --editable .

# run Atlas with emulators of Foundry and Auth0; no account needed
local *args:
    atlas local "$@"

# run all tests: the quick ones, then the slow ones, even if a quick one failed
test:
    @quick=0; just quick || quick=$?; just slow && exit $quick

# run the quick tests, on all cores
quick *args:
    pytest -n auto -m "not slow" "$@"

# run the slow tests one by one: real processes, crashes, property tests
slow *args:
    pytest -m slow "$@"

# install Spark, and test the transforms of config/foundry: needs Java 17 or newer
transforms:
    python -m pip install --quiet --require-hashes -r config/requirements-spark.txt
    cd config/foundry/transforms/src && mypy --strict --config-file= -m healthkit.__main__ -m healthkit.expectations
    pytest tests/transforms

# run the quick tests with the lowest versions that pyproject.toml allows: [ARGUMENT OF PYTEST]...
lowest *args:
    python -m tests.ship.versions lowest "$@"

# run the quick tests with the latest versions of all packages: [ARGUMENT OF PYTEST]...
latest *args:
    python -m tests.ship.versions latest "$@"

# run the quick tests with the Python that the image ships, in a container: [ARGUMENT OF PYTEST]...
image-python *args:
    python -m tests.ship.image_python "$@"

# run the linter, and check the formatting
lint:
    ruff check .
    ruff format --check .

# check the types
types:
    mypy

# write the schemas of the rows into config/foundry
row-schemas:
    atlas schema --columns 21 --format foundry > config/foundry/schema.json
    atlas schema --columns 21 --format spark-ddl > config/foundry/schema.ddl
    atlas schema --columns 21 --format json-schema > config/foundry/row.schema.json
    atlas schema --columns 23 --format foundry > config/foundry/schema-23.json
    atlas schema --columns 23 --format spark-ddl > config/foundry/schema-23.ddl
    atlas schema --columns 23 --format json-schema > config/foundry/row-23.schema.json

# look for security problems: bandit in the code, detect-secrets in every file
secure:
    bandit --quiet --recursive --configfile pyproject.toml atlas
    @{{ SECRETS }} | diff --unified {{ BASELINE }} - || { echo "{{ FOUND }}" >&2; exit 1; }

# run the checks of CI
check: test transforms lint types secure

# fix what ruff can fix
fix:
    ruff check --fix .
    ruff format .

# record the current findings of detect-secrets as false alarms; review the difference first
false-alarms:
    {{ SECRETS }} > {{ BASELINE }}

# copy the alert rules to the PrometheusRule for Kubernetes
alerts:
    sed -i.before '/^  groups:$/,$d' {{ RULE }}
    sed -n '/^groups:$/,$p' {{ ALERTS }} | sed 's/^./  &/' >> {{ RULE }}
    rm {{ RULE }}.before

ALERTS := "config/prometheus/alerts.yaml"
RULE := "config/kubernetes/shared/prometheusrule.yaml"

# write the OpenAPI documents to config/, as the code has them now
openapi:
    python -m tests.ship.openapi_files

# build the image, send an export through it, kill it, check that the export survives: [--base debian] [--extras parquet]
image *args:
    python -m tests.ship "$@"

# check every step of the flow: what is wrong, and what to do
diagnose *args:
    atlas diagnose "$@"

# run the chaos trials against the emulators, and print the balance of all rows: [--only NAME]
prove *args:
    python -m tests.chaos prove "$@"

# run all reliability tests at full size (several hours), with reports in Markdown
reliability *args:
    python -m tests.chaos prove --size full --report var/reliability.md "$@"
    python -m tests.chaos prove --size full --journal postgres --report var/reliability-postgres.md "$@"
    TESTS_IN_FULL=1 pytest tests/reliability tests/fuzz tests/ship tests/test_model.py

# mix all loads and faults for half an hour in one run of the service, and report what grows
soak *args:
    python -m tests.chaos soak --report var/soak.md "$@"

# measure the figures of tests/bench/README.md: [--quick] [--into tests/bench/README.md] [NAME]..., such as service
bench *args:
    python -m tests.bench "$@"

# take the picture of the operator page for README.md: [FILE]
screenshot *args:
    python -m tests.screenshot "$@"

# build the wheel and the source distribution into dist/
dist:
    uv build --quiet --clear --out-dir dist .
    @ls dist

# check everything, date CHANGELOG.md, set the version, commit, tag and build; you push
release version: (releasable version) check (versioned version) setup dist
    @echo "Now: git push --follow-tags, and just image."

[private]
releasable version:
    @echo "{{ version }}" | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+' || { echo "{{ version }} is not a version such as 1.2.3." >&2; exit 2; }
    @[ -z "$(git status --porcelain)" ] || { echo "There are uncommitted changes." >&2; exit 1; }
    @! git rev-parse --quiet --verify "v{{ version }}" > /dev/null || { echo "v{{ version }} already exists as a tag." >&2; exit 1; }
    @grep -q "^## {{ version }}, not released yet$" CHANGELOG.md || { echo "CHANGELOG.md has no '## {{ version }}, not released yet'." >&2; exit 1; }

[private]
versioned version:
    sed -i.before 's/^## {{ version }}, not released yet$/## {{ version }}, '"$(date -u +%F)/" CHANGELOG.md
    sed -i.before 's/^version = ".*"$/version = "{{ version }}"/' pyproject.toml
    sed -i.before 's/^__version__ = ".*"$/__version__ = "{{ version }}"/' atlas/__init__.py
    sed -i.before 's/^    "version": ".*",$/    "version": "{{ version }}",/' config/openapi.json config/openapi-operator.json
    sed -i.before 's/newTag: ".*"$/newTag: "{{ version }}"/' config/kubernetes/kustomization.yaml config/kubernetes/replicas/kustomization.yaml
    rm CHANGELOG.md.before pyproject.toml.before atlas/__init__.py.before config/openapi.json.before config/openapi-operator.json.before config/kubernetes/kustomization.yaml.before config/kubernetes/replicas/kustomization.yaml.before
    git commit --quiet --all --message "Atlas {{ version }}"
    git tag --annotate "v{{ version }}" --message "Atlas {{ version }}"

# fuzz the readers of input: [TARGET [SECONDS]], by default each for a minute
fuzz *args:
    python -m tests.fuzz "$@"

# measure the test coverage
cover:
    pytest --cov --cov-report=term

# lock the versions of all dependencies, with hashes
lock *args:
    uv pip compile {{ LOCK }} --output-file=config/requirements.txt "$@"
    uv pip compile {{ LOCK }} --extra=dev --output-file=config/requirements-dev.txt "$@"
    for extra in parquet otel postgres spark; do uv pip compile {{ LOCK }} --constraints=config/requirements-dev.txt --extra=$extra --output-file=config/requirements-$extra.txt "$@"; done

# Renovate reads this command in the header of each file, and understands no short options
LOCK := "--quiet pyproject.toml --universal --no-strip-extras --python-version=3.11 --generate-hashes"

# It asks neither the network nor git, and the same files make the same text: no times, no line numbers.
SECRETS := "detect-secrets scan --slim --no-verify --all-files --exclude-files '" + NOT_OURS + "' " + NO_ACCOUNT + " " + OURS
BASELINE := "config/false-alarms.json"
OURS := "atlas config tests .ci .github $(find . -maxdepth 1 -type f)"
# hashes of packages; what Python, mypy, pytest and coverage leave behind; what was found before
NOT_OURS := "^config/requirements.*[.]txt$|__pycache__/|[.][a-z]+_cache/|^[.]coverage|^" + BASELINE + "$"
# services that Atlas has no account with; a public address is no secret. They take half of the time
NO_ACCOUNT := prepend("--disable-plugin ", "ArtifactoryDetector CloudantDetector DiscordBotTokenDetector IbmCloudIamDetector IbmCosHmacDetector IPPublicDetector MailchimpDetector OpenAIDetector SendGridDetector SoftlayerDetector SquareOAuthDetector StripeDetector TelegramBotTokenDetector TwilioKeyDetector")
FOUND := "Not as in " + BASELINE + ": + was found, - is gone. 'detect-secrets scan FILE' says in which line. A secret: take it out, and change it where it is used. A false alarm: just false-alarms."
