"""Pictures of validation sets in TensorBoard's event files, read and written by TensorBoard's own code."""

import os
from os import path as osp

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from basicsr_unlearn.atomic import atomic


def find(folder):
    """Return the event files of a folder and its subfolders; none where there is no such folder."""
    places = [osp.join(place, name) for place, _, names in os.walk(folder) for name in names]
    return sorted(path for path in places if 'tfevents' in osp.basename(path) and not path.endswith('.tmp'))


def pictures(path, sets):
    """Return the bytes of each picture of some validation sets in an event file."""
    events = map(Event.FromString, RawEventFileLoader(path).Load())
    return [value.ByteSize() for event in events for value in event.summary.value if _shows(value, sets)]


def drop_pictures(path, sets):
    """Rewrite an event file without the pictures of some validation sets; all else stays, bit for bit.

    A damaged end, which TensorBoard cannot read and which may hold half a picture, goes as well.
    """

    def write(temporary):
        with open(temporary, 'wb') as file:
            writer = RecordWriter(file)
            for record in map(lambda record: _without_pictures(record, sets), RawEventFileLoader(path).Load()):
                if record:
                    writer.write(record)

    atomic(path, write)


def _without_pictures(record, sets):
    event = Event.FromString(record)
    kept = [value for value in event.summary.value if not _shows(value, sets)]
    if len(kept) == len(event.summary.value):
        return record
    del event.summary.value[:]
    event.summary.value.extend(kept)
    return event.SerializeToString() if kept else b''


def _shows(value, sets):
    """Return whether a value is a picture SET/NUMBER of one of the sets (models/tensorboard.py)."""
    return value.HasField('image') and value.tag.rpartition('/')[0] in sets
