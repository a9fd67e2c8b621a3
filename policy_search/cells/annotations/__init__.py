"""Annotation files of any size: read once piece by piece, then from a compact copy in the user's cache folder.

A file of LIVECell's size is half a gigabyte of JSON and almost four of Python objects. `source.read` goes through it
with a window of a few megabytes (`stream`), packs the annotations image by image (`fragment`, `pack`) and keeps the
result under the SHA-256 of the file (`folder`); `stamps` remember which file has which digest, so that nothing is
hashed twice. What is read from the copy equals, value for value, what `json.loads` gives.
"""
