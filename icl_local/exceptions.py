"""The exception tree. Every error a user can meet says what is wrong and what to do next, in one line.

IclError
├── ConfigError        an option, a registry entry or a study file that cannot be used
│   └── UnknownName    a model, method, language or study that nobody defined
├── InputError         a file of queries, outputs, judgments or prompts that cannot be read
├── ModelError         a GGUF file that is not one, is damaged, or lacks what the task needs
│   └── EngineError    llama.cpp refused, aborted or died
├── HubError           a download that failed, is gated, or does not match its checksum
├── StoreError         a database or spool that cannot be opened, written or upgraded
│   ├── StoreLocked    another process holds the database
│   └── DiskFull       no space is left; what was acknowledged is kept
├── ApiError           an OpenAI-compatible server that cannot go on (key, quota, model, cost limit)
├── JudgeError         the judge cannot go on (key, quota, cost limit)
├── TrainingError      a DPO run that cannot start or go on
├── ConversionError    a checkpoint that cannot be converted, or failed its parity gate
├── TranslationError   a translation engine that cannot start or go on
├── ClusterError       a Ray cluster that cannot be reached or lost every worker
└── MissingExtra       an optional dependency that is not installed
"""


class IclError(Exception):
    """Base of every error this package raises on purpose; the command line prints it on one line and exits 1."""


class ConfigError(IclError):
    """An option, a registry entry or a study file that cannot be used."""


class UnknownName(ConfigError):
    """A model, method, language or study that nobody defined."""


class InputError(IclError):
    """A file of queries, outputs, judgments or prompts that cannot be read; file and line are named."""


class ModelError(IclError):
    """A GGUF file that is not one, is damaged, or lacks what the task needs."""


class EngineError(ModelError):
    """llama.cpp refused the model or the batch, aborted, or its process died."""


class HubError(IclError):
    """A download that failed, is gated, or does not match its checksum."""


class StoreError(IclError):
    """A database or spool that cannot be opened, written or upgraded."""


class StoreLocked(StoreError):
    """Another process holds the database; the spool keeps what was made."""


class DiskFull(StoreError):
    """No space is left on the device; everything acknowledged is kept."""


class ApiError(IclError):
    """An OpenAI-compatible server that cannot go on: no key, no quota, no such model, no answer, or the cost limit."""


class JudgeError(IclError):
    """The judge cannot go on: no key, no quota, or the cost limit is reached."""


class TrainingError(IclError):
    """A DPO run that cannot start or go on."""


class ConversionError(IclError):
    """A checkpoint that cannot be converted, or a file that failed its parity gate."""


class TranslationError(IclError):
    """A translation engine that cannot start or go on."""


class ClusterError(IclError):
    """A Ray cluster that cannot be reached, or that lost every worker."""


class MissingExtra(IclError):
    """An optional dependency is not installed; the message holds the pip command."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'icl-local[{extra}]'")
