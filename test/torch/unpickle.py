"""Reads a file by Python's own zipfile and unpickler, under an allow-list, and prints it as JSON."""

import array
import collections
import io
import json
import pickle
import sys
import zipfile

ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: {"size": size, "stride": stride, "numbers": storage[offset:]},
    ("torch", "FloatStorage"): "f",
    ("collections", "OrderedDict"): collections.OrderedDict,
}
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return ALLOWED[module, name]

    def persistent_load(self, identity):
        kind, code, key, location, size = identity
        assert (kind, location) == ("storage", "cpu")
        numbers = array.array(code, archive.read(f"archive/data/{key}"))
        assert len(numbers) == size
        return numbers.tolist()


print(json.dumps(Unpickler(io.BytesIO(archive.read("archive/data.pkl"))).load()))
