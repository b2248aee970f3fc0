"""Python types as JSON: what they are there, the schema that says so, and values read into them.

::

    type or function ─→ shape ─→ schema_of()    what the model is told
                              └→ read()         what it wrote, checked

Both come from the same shape, so that what a schema allows is what is read::

    shape = shape_of(Weather)
    schema_of(shape)                # {"type": "object", "properties": …}
    read(shape, {"city": "Oslo"})   # Weather(city="Oslo"), or DecodeError with the path
"""

from chatstream.schema.reading import read
from chatstream.schema.shapes import Property, Record, Shape, UnsupportedTypeError, shape_of
from chatstream.schema.signatures import Signature, signature_of
from chatstream.schema.writing import schema_of

__all__ = [
    "Property",
    "Record",
    "Shape",
    "Signature",
    "UnsupportedTypeError",
    "read",
    "schema_of",
    "shape_of",
    "signature_of",
]
