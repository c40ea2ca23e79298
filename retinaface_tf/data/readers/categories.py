"""Which of a label file's categories are faces."""

from collections.abc import Hashable

from retinaface_tf.errors import DataError


def face_categories(
    names: dict[Hashable, str], labels, category: str | int | None
) -> set[Hashable]:
    """The ids of a file's categories that are faces.

    Args:
        names: the categories' names by their ids, "" for one without a name.
        labels: the file, for messages.
        category: name or id that is chosen. None: the only one, or those named "face".

    Raises:
        DataError: there is no such category, or there are several and none was chosen.
    """
    known = ", ".join(
        f"{name!r} ({id})" if name and name != id else repr(id) for id, name in names.items()
    )
    if category is not None:
        ids = {id for id, name in names.items() if str(category) in (name, str(id))}
        if not ids:
            raise DataError(
                f"Label file {labels} has no category {category!r}; it has {known or 'none'}."
            )
        return ids
    if len(names) < 2:
        return set(names)
    ids = {id for id, name in names.items() if name.lower() == "face"}
    if not ids:
        raise DataError(
            f"Label file {labels} has several categories ({known}) and none named 'face'; choose one "
            "with --category, in training with --set data.category=NAME."
        )
    return ids
