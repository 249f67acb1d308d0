"""The servers beside Ceph: Azure's and Google's stand-ins, rclone's WebDAV and its S3 that minds no preconditions, and
OpenSSH's server for SFTP. Each keeps its files below one folder and listens on the loopback alone.
"""

import base64
import email.utils
import getpass
import hashlib
import hmac
from pathlib import Path

from processes import await_answer, await_port, free_ports, run, send, spawn

# The account that Azurite has, with the key that its documentation gives.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURE_VERSION = "2021-08-06"
BUCKET = "bygone"
KEY, SECRET = "bygone-key", "bygone-secret-of-no-value"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def azurite(tools, folder, started):
    port, = free_ports(1)
    log = folder / "azurite.log"
    program = tools / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    started.append(spawn([program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence",
                          "--skipApiVersionCheck", "--silent", "--disableTelemetry"], log))
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    await_answer("Azurite", endpoint, log, started)
    make_azure_container(endpoint)
    return {"endpoint": endpoint, "account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY, "container": BUCKET}


def make_azure_container(endpoint):
    """Signed with the shared key, as Azure's REST reference describes under "Authorize with Shared Key"."""
    date = email.utils.formatdate(usegmt=True)
    # The method and eleven headers that are not sent, then those that are.
    signed = ("PUT" + 12 * "\n" + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n"
              f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container")
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)).decode()
    send("PUT", f"{endpoint}/{BUCKET}?restype=container", None, {
        "x-ms-date": date, "x-ms-version": AZURE_VERSION, "Content-Length": "0",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}"})


def google(tools, folder, started):
    port, = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    log = folder / "google.log"
    server = Path(__file__).with_name("google_server.py")
    started.append(spawn([tools / "python" / "bin" / "python", server, str(port), BUCKET], log))
    await_answer("Google's stand-in", endpoint, log, started)
    return {"endpoint": endpoint, "bucket": BUCKET}


def webdav(tools, folder, started):
    port, = free_ports(1)
    log = folder / "webdav.log"
    files = folder / "files"
    files.mkdir()
    # The password by the environment: what is on the command line, everybody can read.
    started.append(spawn([tools / "python" / "bin" / "rclone", "serve", "webdav", files, "--addr", f"127.0.0.1:{port}"],
                         log, rclone_environment(folder, RCLONE_USER=KEY, RCLONE_PASS=SECRET)))
    await_answer("rclone's WebDAV", f"http://127.0.0.1:{port}", log, started)
    return {"url": f"http://127.0.0.1:{port}", "user": KEY, "password": SECRET}


def careless_s3(tools, folder, started):
    """rclone's S3: it ignores preconditions, and answers a range with all of the object."""
    port, = free_ports(1)
    log = folder / "careless-s3.log"
    files = folder / "files"
    (files / BUCKET).mkdir(parents=True)
    started.append(spawn([tools / "python" / "bin" / "rclone", "serve", "s3", files, "--addr", f"127.0.0.1:{port}"],
                         log, rclone_environment(folder, RCLONE_AUTH_KEY=f'"{KEY},{SECRET}"')))
    endpoint = f"http://127.0.0.1:{port}"
    await_answer("rclone's S3", endpoint, log, started)
    return {"endpoint": endpoint, "access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1",
            "bucket": BUCKET}


def rclone_environment(folder, **settings):
    return {"HOME": str(folder), "PATH": "/usr/bin:/bin", "RCLONE_CONFIG": str(folder / "rclone.conf"),
            "RCLONE_CACHE_DIR": str(folder / "cache"), "RCLONE_VFS_CACHE_MODE": "off", **settings}


def sftp(_tools, folder, started):
    """OpenSSH's server with a key of its own, and a configuration by which `ssh -F` reaches it as `bygone-test`."""
    port, = free_ports(1)
    log = folder / "sshd.log"
    for name in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"bygone-test-{name}", "-f", folder / f"{name}-key"])
    files = folder / "files"
    files.mkdir()
    # Where sshd puts what it locks up, which only its own service makes.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "sshd_config").write_text(f"""\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host-key
AuthorizedKeysFile {folder}/user-key.pub
PidFile none
# The keys lie in a folder that others may be able to write to.
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
MaxStartups 100:1:200
Subsystem sftp {SFTP_SERVER}
""")
    host_key = (folder / "host-key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    configuration = folder / "ssh_config"
    configuration.write_text(f"""\
Host bygone-test
    HostName 127.0.0.1
    Port {port}
    User {getpass.getuser()}
    IdentityFile {folder}/user-key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
Host bygone-jump
    HostName 127.0.0.1
    Port {port}
    User {getpass.getuser()}
    IdentityFile {folder}/user-key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    ProxyCommand ssh -F {configuration} -W %h:%p bygone-test
""")
    started.append(spawn(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"], log))
    await_port("sshd", port, log, started)
    return {"configuration": str(configuration), "host": "bygone-test", "jump_host": "bygone-jump", "port": port,
            "folder": str(files)}
