"""The XML interface of Google Cloud Storage before the storage of gcp-storage-emulator, which has the JSON interface and
little of this one: objects with generations and conditions, ranges, listings in pages, uploads in parts.

Usage: google_server.py PORT BUCKET     (with the Python that gcp-storage-emulator is installed in)
"""

import hashlib
import re
import secrets
import sys
import threading
import time
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.storage import Storage

PAGE_OBJECTS = 1000


class Refusal(Exception):
    """An answer that is an error: its status, and the interface's word for it."""

    def __init__(self, status, code):
        super().__init__(code)
        self.status, self.code = status, code


class Objects:
    """The emulator's storage, one request at a time, with what it does not keep by itself."""

    def __init__(self, bucket):
        self.storage = Storage(use_memory_fs=True)
        create_bucket(bucket, self.storage)
        # Nothing that was deleted is kept for later.
        self.storage.buckets[bucket]["softDeletePolicy"] = {"retentionDurationSeconds": "0"}
        self.lock = threading.Lock()
        self.uploads = {}

    def put(self, bucket, name, content, only_new):
        with self.lock:
            if bucket not in self.storage.buckets:
                raise Refusal(404, "NoSuchBucket")
            if only_new and name in self.storage.objects.get(bucket, {}):
                raise Refusal(412, "PreconditionFailed")
            entry = {"generation": str(time.time_ns()), "etag": hashlib.md5(content).hexdigest(),
                     "size": str(len(content)), "changed": time.time()}
            self.storage.create_file(bucket, name, content, entry)
            return entry

    def get(self, bucket, name):
        with self.lock:
            try:
                return self.storage.get_file_obj(bucket, name), self.storage.get_file(bucket, name, show_error=False)
            except NotFound:
                raise Refusal(404, "NoSuchKey" if bucket in self.storage.buckets else "NoSuchBucket") from None

    def delete(self, bucket, name):
        with self.lock:
            try:
                self.storage.delete_file(bucket, name)
            except NotFound:
                raise Refusal(404, "NoSuchKey") from None

    def page(self, bucket, prefix, after, count):
        """Names and entries after a name, and whether there are more."""
        with self.lock:
            if bucket not in self.storage.buckets:
                raise Refusal(404, "NoSuchBucket")
            entries = self.storage.objects.get(bucket, {})
            names = sorted(name for name in entries if name.startswith(prefix) and name > after)
            return [(name, entries[name]) for name in names[:count]], len(names) > count


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, objects, *arguments):
        self.objects = objects
        super().__init__(*arguments)

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        self.answer(self.read)

    def do_HEAD(self):
        self.answer(self.read)

    def do_PUT(self):
        self.answer(self.write)

    def do_POST(self):
        self.answer(self.post)

    def do_DELETE(self):
        self.answer(self.delete)

    def answer(self, act):
        url = urlsplit(self.path)
        bucket, _, name = url.path.removeprefix("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            act(bucket, unquote(name), query, body)
        except Refusal as refusal:
            text = f"<?xml version='1.0'?><Error><Code>{refusal.code}</Code><Message>{refusal.code}</Message></Error>"
            self.send(refusal.status, text.encode(), {"Content-Type": "application/xml"})

    def send(self, status, content=b"", headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read(self, bucket, name, query, _body):
        if not name:
            return self.list(bucket, query)
        entry, content = self.objects.get(bucket, name)
        headers = {"ETag": f'"{entry["etag"]}"', "x-goog-generation": entry["generation"],
                   "Last-Modified": formatdate(entry["changed"], usegmt=True), "Accept-Ranges": "bytes"}
        span = self.span(len(content))
        if span is None:
            return self.send(200, content, headers)
        start, end = span
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self.send(206, content[start:end], headers)

    def span(self, length):
        """The bytes that are asked for, from and to; None where all are."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if found is None or not any(found.groups()):
            return None
        first, last = found.groups()
        if not first:
            start, end = max(0, length - int(last)), length
        else:
            start, end = int(first), min(length, int(last) + 1 if last else length)
        if start >= end:
            raise Refusal(416, "InvalidRange")
        return start, end

    def list(self, bucket, query):
        after = max(query.get("continuation-token", ""), query.get("start-after", ""))
        count = min(int(query.get("max-keys", PAGE_OBJECTS)), PAGE_OBJECTS)
        page, more = self.objects.page(bucket, query.get("prefix", ""), after, count)
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{entry['size']}</Size><ETag>\"{entry['etag']}\"</ETag>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(entry['changed']))}</LastModified>"
            "</Contents>" for name, entry in page)
        token = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if more else ""
        text = (f"<?xml version='1.0'?><ListBucketResult><Name>{bucket}</Name><IsTruncated>{str(more).lower()}"
                f"</IsTruncated>{token}{contents}</ListBucketResult>")
        self.send(200, text.encode(), {"Content-Type": "application/xml"})

    def write(self, bucket, name, query, body):
        if "uploadId" in query:
            self.upload(query)[int(query["partNumber"])] = body
            return self.send(200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        entry = self.objects.put(bucket, name, body, self.headers.get("x-goog-if-generation-match") == "0")
        return self.send(200, headers={"ETag": f'"{entry["etag"]}"', "x-goog-generation": entry["generation"]})

    def upload(self, query):
        try:
            return self.objects.uploads[query["uploadId"]]
        except KeyError:
            raise Refusal(404, "NoSuchUpload") from None

    def post(self, bucket, name, query, _body):
        if "uploads" in query:
            identity = secrets.token_hex(8)
            self.objects.uploads[identity] = {}
            text = ("<?xml version='1.0'?><InitiateMultipartUploadResult>"
                    f"<UploadId>{identity}</UploadId></InitiateMultipartUploadResult>")
            return self.send(200, text.encode(), {"Content-Type": "application/xml"})
        parts = self.upload(query)
        entry = self.objects.put(bucket, name, b"".join(parts[number] for number in sorted(parts)), False)
        del self.objects.uploads[query["uploadId"]]
        text = ("<?xml version='1.0'?><CompleteMultipartUploadResult>"
                f"<ETag>\"{entry['etag']}\"</ETag></CompleteMultipartUploadResult>")
        return self.send(200, text.encode(), {"Content-Type": "application/xml",
                                              "x-goog-generation": entry["generation"]})

    def delete(self, bucket, name, query, _body):
        if "uploadId" in query:
            self.objects.uploads.pop(query["uploadId"], None)
        else:
            self.objects.delete(bucket, name)
        self.send(204)


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), partial(Handler, Objects(sys.argv[2]))).serve_forever()
