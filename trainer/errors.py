"""The trainer's errors. Messages say what was wrong and what would be right."""


class TrainerError(Exception):
    """An error that the user can fix; shown without a stack trace."""


class DatasetError(TrainerError):
    """A prepared data set cannot be made or read."""


class RunError(TrainerError):
    """A run directory cannot be made or read."""


class ContractError(TrainerError):
    """A model breaks the contract that every published model keeps."""


class PublishError(TrainerError):
    """A version cannot be written into, or loaded from, a model repository."""
