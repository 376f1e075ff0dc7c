"""All configuration: one class, read from `GEO_ASSETS_*` and from what the local stack wrote in its home.

Here: names, defaults, places. Not here: connecting to anything.
"""

from __future__ import annotations

import os
import re
import socket
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from geo_assets import redaction
from geo_assets.accounts import Account, LocalAccount, WebAddress
from geo_assets.errors import GeoAssetsError
from geo_assets.home import default_home
from geo_assets.machine import (
    cores,
    default_child_mb,
    default_host_children,
    default_host_folder,
    default_host_memory_mb,
)
from geo_assets.patterns import ACCOUNT_ALIAS
from geo_assets.task_status import BAD_INPUT
from geo_assets.tokens import Auth, database_token

#: The longest that anything is kept: a time before which there is none of it, and which every database can say.
MOST_DAYS = 36_500

#: The longest that anything is waited for: a week.
_MOST_SECONDS = 7 * 86_400

B = TypeVar("B", bound=BaseSettings)

#: Written by `geo-assets up`, 0600: ports and passwords of the local stack.
STACK_ENV_FILE = "stack.env"

#: Session settings of every connection.
_UTC = "-ctimezone=UTC"

#: A peer that vanished while it was waited for is noticed within half a minute instead of the kernel's two hours, and
#: one that never answers within 10 s. What was sent to it is sent again for as long as the kernel does, a quarter of an
#: hour.
CONNECTION_LIMITS = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "connect_timeout": 10,
}

Role = Literal["migrator", "pipeline", "reader"]

#: What the steps of a run run on, and what runs run on. Some need an extra (`extras.py`).
EXECUTORS = ("in_process", "multiprocess", "celery", "k8s")
RUN_LAUNCHERS = ("default", "celery")

#: What to do about a setting that is wrong, where the table of errors says too little.
ACCOUNTS_REMEDY = "correct it; README.md, section Azure, shows an example of GEO_ASSETS_ACCOUNTS"
_REMEDIES = {
    "GEO_ASSETS_ACCOUNTS": ACCOUNTS_REMEDY,
    "GEO_ASSETS_EXECUTOR": "name one of these, or unset it: the steps of a run are then executed in its own process",
    "GEO_ASSETS_RUN_LAUNCHER": "name one of these, or unset it: runs are then processes of the code server",
}

#: As Dagster takes it.
Owner = Annotated[str, Field(pattern=r"^(team:.+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]


class Settings(BaseSettings):
    """Every setting of the project. Environment variables win over the local stack's file."""

    model_config = SettingsConfigDict(env_prefix="GEO_ASSETS_", extra="ignore", frozen=True)

    home: Path = Field(default_factory=default_home, description="where the local stack keeps everything")
    accounts: dict[str, Account] = Field(
        default_factory=dict, description="JSON: alias -> {kind: local|azure|s3|gcs, …}"
    )
    output_account: str = Field("default", description="alias of the account that COGs and thumbnails are written to")
    cog_container: str = Field("cogs", validate_default=True, description="container for COGs in that account")
    thumbnail_container: str = Field(
        "thumbnails", validate_default=True, description="container for thumbnails in that account"
    )

    inbox_account: str = Field("default", description="alias of the account with the blob inbox")
    inbox_container: str = Field(
        "submissions", validate_default=True, description="its container with inbox/, done/ and poison/"
    )
    queue_name: str = Field(
        "geospatial-jobs",
        pattern=r"^[a-z0-9](?:-?[a-z0-9]){2,55}$",
        description="the Azure Storage Queue that is read; NAME-poison takes what is bad",
    )
    queue_connection_string: SecretStr | None = Field(
        None, description="of the queue's account: with an account key, or Azurite's"
    )
    queue_url: WebAddress | None = Field(
        None, description="https://ACCOUNT.queue.core.windows.net, read with the identity of the environment"
    )

    pg_host: str = Field("127.0.0.1", description="host of PostgreSQL")
    pg_port: int = Field(5432, description="its port")
    pg_database: str = Field("geo_assets", description="the one database that holds everything")
    pg_auth: Auth = Field(
        "password",
        description="password; or tokens instead, of Azure's identity (azure) or of a program (command): each role is"
        " then one that PostgreSQL knows by its token",
    )
    pg_token_command: str = Field(
        "", description="command: the program with its arguments, which prints a token, or JSON as az does"
    )
    migrator_user: str = Field("geo_migrator", description="role that owns the schema and applies sql/")
    migrator_password: SecretStr = Field(SecretStr(""), description="its password")
    pipeline_user: str = Field("geo_pipeline", description="role of runs, API and Dagster")
    pipeline_password: SecretStr = Field(SecretStr(""), description="its password")
    reader_user: str = Field("geo_reader", description="read-only role")
    reader_password: SecretStr = Field(SecretStr(""), description="its password")

    allowed_hosts: tuple[str, ...] = Field(
        (), description="JSON list: host names of API and webserver, in addition to loopback"
    )
    api_port: int = Field(8000, description="port of the HTTP API")
    serve_port: int = Field(8080, description="port of the server of catalogue, tiles, features, files and page")
    up_serves: bool = Field(
        True, description="`geo-assets up` starts that server too, where its packages are; else `geo-assets serve` does"
    )
    public_url: WebAddress | None = Field(
        None, description="address of that server for its clients, behind a proxy (default: what the request names)"
    )
    read_origins: tuple[str, ...] = Field(
        (), description="JSON list: origins of other pages that may read from that server, as https://HOST; * is any"
    )
    api_require_auth: bool = Field(False, description="require a bearer token on loopback too")
    oidc_issuer: str | None = Field(None, description="issuer of the OpenID Connect tokens that the API accepts")
    oidc_audience: str | None = Field(None, description="their audience")
    oidc_jwks_url: str | None = Field(None, description="where their keys are (default: ISSUER/.well-known/jwks.json)")
    allow_schema_redeploy: bool = Field(
        False, description="let POST /api/db/schema/redeploy drop the ledger and the published tables"
    )
    webserver_port: int = Field(3000, description="port of Dagster's webserver")
    webserver_url: WebAddress | None = Field(
        None,
        description="address of Dagster's webserver, where it is not the local stack's: submissions are launched there,"
        " and links lead there",
    )
    code_location: str = Field(
        "geo_assets", min_length=1, description="name that Dagster's workspace gives to our code location"
    )
    owners: tuple[Owner, ...] = Field(
        ("team:geo_assets",),
        description="JSON list: owners of the assets in Dagster, each team:NAME or an e-mail address",
    )
    code_server_port: int = Field(4000, description="port of Dagster's code server")

    executor: str = Field(
        "in_process",
        description="what the steps of a run run on: in_process, multiprocess, celery (extra celery), k8s (extra k8s)",
    )
    steps_at_once: int = Field(
        2, ge=1, description="multiprocess: number of steps of a run at a time, each with children of its own"
    )
    run_launcher: str = Field(
        "default",
        description="what runs run on: default (processes of the code server), or workers of celery (extra celery)",
    )
    dagster_yaml: Path | None = Field(
        None,
        description="a file with more of dagster.yaml for the local stack: a launcher of Kubernetes or Container Apps",
    )
    celery_broker: SecretStr | None = Field(
        None, description="celery: URL of the broker, redis://:PASSWORD@HOST:PORT/0, or any other that Celery takes"
    )
    celery_backend: SecretStr | None = Field(
        None, description="celery: URL of the result backend (default: that of the broker)"
    )
    workers: int = Field(
        default_factory=lambda: min(cores(), 8),
        ge=1,
        description="number of sandboxed child processes per run, or per step that is a process of its own, at most",
    )
    host_children: int = Field(
        default_factory=default_host_children,
        ge=1,
        description="number of sandboxed child processes of all runs, steps and workers of this host together (default:"
        " its cores, two at least); one more while large runs have them and a small one has none",
    )
    host_memory_mb: int = Field(
        default_factory=default_host_memory_mb,
        ge=512,
        description="address space of all these child processes together (default: 80 % of the memory of the host, or"
        " of the control group)",
    )
    host_folder: Path = Field(
        default_factory=default_host_folder,
        description="where those meet who share these two limits (default: one for each user, in the directory for"
        " temporary files)",
    )
    sandbox_memory_mb: int = Field(
        default_factory=default_child_mb,
        ge=512,
        description="address space of one sandboxed child (default: 4096; less, but not below 2048, where the memory is"
        " not enough for a child for each core)",
    )
    sandbox_disk_mb: int = Field(200 * 1024, ge=64, description="limit for all files of one sandboxed child together")
    sandbox: Literal["strict", "permissive"] = Field(
        "strict", description="permissive: open untrusted files even if this machine lacks a part of the isolation"
    )
    sandbox_timeout_seconds: float = Field(
        600, gt=0, le=_MOST_SECONDS, description="wall-clock limit per file in the sandbox"
    )
    chunk_files: int = Field(
        64, ge=1, description="maximum number of files per mapped step; large files get steps with fewer"
    )
    max_chunks: int = Field(
        64, ge=1, description="maximum number of mapped steps per stage: Dagster's event log grows with each"
    )
    chunk_pixels: int = Field(
        500_000_000,
        ge=1,
        description="rasters with more pixels get checkpoints: after a kill, the next run resumes there",
    )
    storage_wait_seconds: float = Field(
        1800, ge=0, le=_MOST_SECONDS, description="how long a run waits for a storage account that does not answer"
    )
    orphan_grace_hours: float = Field(
        6,
        gt=0,
        le=24 * MOST_DAYS,
        description="how long an orphaned output is kept; must be longer than any upload takes",
    )
    change_feed_days: float = Field(
        90, gt=0, le=MOST_DAYS, description="how long the feed of changes of the catalogue keeps a change"
    )
    keep_runs_days: float = Field(
        30,
        gt=0,
        le=MOST_DAYS,
        description="how long Dagster keeps a run after its end, with its events, logs and contracts; outcomes and"
        " accounts of jobs are kept",
    )
    keep_messages_days: float = Field(
        30,
        gt=0,
        le=MOST_DAYS,
        description="how long the bytes of a message are kept after it was dealt with; not of one in poison",
    )
    max_source_bytes: int = Field(20 * 1024**3, ge=1, description=f"larger sources are {BAD_INPUT}")
    log_format: Literal["json", "text"] = Field(
        "json",
        description="of the lines that servers, sensors and runs write: json, one object a line, for whatever collects"
        " them; text, for people",
    )
    otlp_endpoint: WebAddress | None = Field(
        None,
        description="address of a collector of OpenTelemetry, http://HOST:4318, that spans are sent to by OTLP/HTTP"
        " (extra otel; default: none are)",
    )
    alert_webhook: SecretStr | None = Field(
        None, description="where alerts are posted to, https://…; a secret, as whoever knows it can post (default: off)"
    )
    alert_format: Literal["json", "slack", "teams"] = Field(
        "json", description="what is posted: json, for a program; or a message of Slack or Teams"
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("accounts")
    @classmethod
    def _aliases_are_plain(cls, value: dict[str, Account]) -> dict[str, Account]:
        for alias in value:
            if not ACCOUNT_ALIAS.fullmatch(alias):
                msg = f"account alias {alias!r} must match {ACCOUNT_ALIAS.pattern}"
                raise ValueError(msg)
        return value

    @field_validator("cog_container", "thumbnail_container", "inbox_container")
    @classmethod
    def _is_not_a_strangers(cls, value: str, info: ValidationInfo) -> str:
        """Refuse a default as the name of a bucket that everybody may have: nothing of ours is written to it."""
        of = "inbox_account" if info.field_name == "inbox_container" else "output_account"
        account = info.data.get("accounts", {}).get(info.data.get(of))
        if account and account.names_are_global and value == cls.model_fields[str(info.field_name)].default:
            msg = f"{value} is in this account a name for everybody: name a bucket of your own"
            raise ValueError(msg)
        return value

    @field_validator("executor", "run_launcher")
    @classmethod
    def _is_known(cls, value: str, info: ValidationInfo) -> str:
        known = EXECUTORS if info.field_name == "executor" else RUN_LAUNCHERS
        if value not in known:
            msg = f"must be one of {', '.join(known)} (got {value[:40]!r})"
            raise ValueError(msg)
        return value

    @field_validator("queue_connection_string")
    @classmethod
    def _connection_is_whole(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (text := value.get_secret_value()):
            parts = {
                key.strip().lower()
                for key, equals, rest in (p.partition("=") for p in text.split(";"))
                if equals and rest
            }
            if not parts & {"accountkey", "sharedaccesssignature"} or not parts & {"accountname", "queueendpoint"}:
                msg = (
                    "is not a connection string, which has an AccountName or a QueueEndpoint, and an AccountKey or a"
                    " SharedAccessSignature"
                )
                raise ValueError(msg)
        return value

    @field_validator("alert_webhook")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        parts = urlsplit(value.get_secret_value())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = "is not an address, https://HOST/…"
            raise ValueError(msg)
        return value

    @property
    def secrets(self) -> list[str]:
        """Every value that may be in no line and no message."""
        holders = [self, *self.accounts.values()]
        held = (getattr(holder, name) for holder in holders for name in type(holder).model_fields)
        return [value.get_secret_value() for value in held if isinstance(value, SecretStr)]

    @cached_property
    def storage_accounts(self) -> dict[str, Account]:
        """Alias -> account; `default` is the local directory unless it is configured."""
        accounts = {"default": LocalAccount(), **self.accounts}
        return {
            alias: account.placed(self.home) if isinstance(account, LocalAccount) else account
            for alias, account in accounts.items()
        }

    @property
    def output_containers(self) -> tuple[str, ...]:
        """The containers of `output_account` that outputs are written to, COGs first; one if both are in the same."""
        return tuple(dict.fromkeys((self.cog_container, self.thumbnail_container)))

    def dsn(self, role: Role) -> str:
        """A libpq URL of one of the three roles.

        The session's time zone is UTC, whatever the database's is: Dagster keeps times without a zone. Its name is this
        process's own.
        """
        name = f"geo_assets {socket.gethostname()[:40]}/{os.getpid()}"
        said = urlencode({"options": _UTC, "application_name": name, **CONNECTION_LIMITS}, quote_via=quote)
        return f"{self._address(role)}?{said}"

    def _address(self, role: Role) -> str:
        user, password = self.credentials(role)
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{self._database}"

    @property
    def _database(self) -> str:
        return f"{self.pg_host}:{self.pg_port}/{quote(self.pg_database)}"

    def credentials(self, role: Role) -> tuple[str, str]:
        """User name and password of a role, or the token that it is known by now: ask for each connection.

        Raises:
            GeoAssetsError: DATABASE_UNAVAILABLE, no token is to be had.
        """
        users = {
            "migrator": (self.migrator_user, self.migrator_password),
            "pipeline": (self.pipeline_user, self.pipeline_password),
            "reader": (self.reader_user, self.reader_password),
        }
        user, password = users[role]
        if self.pg_auth == "password":
            return user, password.get_secret_value()
        return user, database_token(self.pg_auth, self.pg_token_command)

    @property
    def dagster_postgres_url(self) -> str:
        """Dagster's storage: schema `dagster` of the one database.

        The driver is named: SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`, and every event write of
        dagster-postgres fails. It has no token: `defs/storage.py` asks for one at each connection.
        """
        user = quote(self.pipeline_user)
        address = (
            self._address("pipeline") if self.pg_auth == "password" else f"postgresql://{user}@{self._database}"
        ).replace("postgresql://", "postgresql+psycopg2://", 1)
        return f"{address}?options={quote(f'{_UTC} -csearch_path=dagster')}"

    @property
    def celery_urls(self) -> tuple[str, str]:
        """Broker and result backend of Celery; empty if there are none."""
        broker, backend = (
            secret.get_secret_value() if secret else "" for secret in (self.celery_broker, self.celery_backend)
        )
        return broker, backend or broker

    @property
    def sandbox_limits(self) -> dict[str, Any]:
        """Keyword arguments of a pool of sandboxed children."""
        return {
            "memory_mb": self.sandbox_memory_mb,
            "disk_mb": self.sandbox_disk_mb,
            "timeout_seconds": self.sandbox_timeout_seconds,
            "permissive": self.sandbox == "permissive",
        }

    @property
    def dagster_home(self) -> Path:
        """`DAGSTER_HOME` of the local stack."""
        return self.home / "dagster"

    @property
    def api_url(self) -> str:
        """The HTTP API of the local stack."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def serve_url(self) -> str:
        """The server of the local stack, for its clients."""
        return (self.public_url or f"http://127.0.0.1:{self.serve_port}").rstrip("/")

    @property
    def served(self) -> dict[str, str]:
        """What that server has, each with its address."""
        services = {name: f"{self.serve_url}/{name}" for name in ("stac", "tiles", "features", "files")}
        return {**services, "page": f"{self.serve_url}/"}

    @property
    def dagster_url(self) -> str:
        """The Dagster UI, of the local stack or of somebody's own Dagster."""
        return (self.webserver_url or self.stack_webserver_url).rstrip("/")

    @property
    def stack_webserver_url(self) -> str:
        """The Dagster UI of the local stack."""
        return f"http://127.0.0.1:{self.webserver_port}"


class StageSettings(BaseSettings):
    """The base of the settings of a stage that another distribution adds; theirs has a prefix of its name."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)


def load_settings() -> Settings:
    """The settings of this process: environment first, then what the local stack wrote in its home.

    Raises:
        GeoAssetsError: INVALID_SETTINGS, one sentence that names every variable and field at fault, without their
            values.
    """
    settings = _loaded(Settings)
    redaction.know(settings.secrets)
    return settings


def load_stage_settings(model: type[B]) -> B:
    """As `load_settings`, those of a stage that another distribution adds."""
    return _loaded(model)


def _loaded(model: type[B]) -> B:
    prefix = str(model.model_config.get("env_prefix"))
    try:
        return model(_env_file=default_home() / STACK_ENV_FILE)
    except ValidationError as error:
        faults = "; ".join(
            _fault(prefix, fault["loc"], fault["msg"]) for fault in error.errors(include_url=False, include_input=False)
        )
        raise _invalid(faults) from None
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        variable = f"{prefix}{field.group(1).upper()}" if field else f"a {prefix} variable"
        raise _invalid(f"{variable} is not JSON: {error.__cause__}") from None


def _invalid(faults: str) -> GeoAssetsError:
    remedies = [remedy for variable, remedy in _REMEDIES.items() if faults.startswith(variable)]
    return GeoAssetsError("INVALID_SETTINGS", faults, remedy=remedies[0] if remedies else None)


def _fault(prefix: str, loc: tuple[int | str, ...], message: str) -> str:
    """`GEO_ASSETS_ACCOUNTS: survey.account_name: what is wrong`. The tag of a union is in no JSON that a
    person wrote.
    """
    variable, *fields = [str(part) for part in loc]
    if variable == "accounts":
        fields = [
            part for index, part in enumerate(fields) if index != 1 or part not in {"azure", "gcs", "local", "s3"}
        ]
    where = f": {'.'.join(fields)}" if fields else ""
    return f"{prefix}{variable.upper()}{where}: {message.removeprefix('Value error, ')}"
