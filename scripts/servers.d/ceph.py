"""A Ceph cluster of one monitor and one disk in memory, with the S3 gateway (radosgw) in front of it.

Everything listens on the loopback alone and keeps its files, its keys too, below one folder.
"""

import base64
import email.utils
import hmac
import uuid
from pathlib import Path

from processes import Failed, await_answer, free_ports, known, run, send

KEY, SECRET, REGION = "bygone-key", "bygone-secret-of-no-value", "us-east-1"
BUCKET = "bygone"
# What the disk in memory may hold; memory is taken as it fills.
DISK_BYTES = 8 << 30

CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port},v1:127.0.0.1:{old_monitor_port}]
ms_bind_ipv6 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
run_dir = {folder}/run
admin_socket = {folder}/run/$name.sock
pid_file = {folder}/run/$name.pid
log_file = {folder}/log/$name.log
mon_cluster_log_file = {folder}/log/cluster.log
keyring = {folder}/keyring
# One copy on one disk is what there is room for.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
# Nothing that matters is kept here: a nearly full disk of the machine is another's concern. At 0 a monitor would still
# refuse to start where less than one percent is free, which may be gigabytes.
mon_data_avail_warn = -1
mon_data_avail_crit = -1

[mon.a]
mon_data = {folder}/monitor

[osd.0]
osd_data = {folder}/disk
osd_objectstore = memstore
memstore_device_bytes = {disk_bytes}

[client.gateway]
rgw_data = {folder}/gateway
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
rgw_rados_pool_pg_num_min = 4
"""


def start(folder, started):
    """Start the cluster and the gateway below `folder`, adding each process to `started`. Returns how to reach S3."""
    for name in ("run", "log", "monitor", "disk", "gateway"):
        (folder / name).mkdir(parents=True)
    port, monitor_port, old_monitor_port = free_ports(3)
    settings = folder / "ceph.conf"
    identity = str(uuid.uuid4())
    settings.write_text(CONFIGURATION.format(
        fsid=identity, folder=folder, port=port, monitor_port=monitor_port, old_monitor_port=old_monitor_port,
        disk_bytes=DISK_BYTES))
    make_keys(folder / "keyring")
    at = ["-c", settings]
    monitors = f"[v2:127.0.0.1:{monitor_port},v1:127.0.0.1:{old_monitor_port}]"
    run(["monmaptool", "--create", "--clobber", "--fsid", identity, "--addv", "a", monitors, folder / "monitors"])
    run(["ceph-mon", *at, "--mkfs", "-i", "a", "--monmap", folder / "monitors",
         "--keyring", folder / "keyring"])
    start_daemon(folder, started, ["ceph-mon", *at, "-i", "a"], "mon.a")
    disk = str(uuid.uuid4())
    run(["ceph", *at, "--connect-timeout", "30", "osd", "new", disk, "0"])
    run(["ceph-osd", *at, "-i", "0", "--mkfs", "--osd-uuid", disk])
    start_daemon(folder, started, ["ceph-osd", *at, "-i", "0"], "osd.0")
    start_daemon(folder, started, ["radosgw", *at, "-n", "client.gateway"], "client.gateway")
    run(["radosgw-admin", *at, "-n", "client.gateway", "user", "create", "--uid=bygone", "--display-name=bygone",
         f"--access-key={KEY}", f"--secret-key={SECRET}"])
    endpoint = f"http://127.0.0.1:{port}"
    await_answer("radosgw", endpoint, folder / "log" / "client.gateway.log", started)
    make_bucket(endpoint)
    return {"endpoint": endpoint, "access_key_id": KEY, "secret_access_key": SECRET, "region": REGION, "bucket": BUCKET}


def make_bucket(endpoint):
    """Signed by version 2 of Amazon's scheme, the shortest that the gateway takes."""
    date = email.utils.formatdate(usegmt=True)
    signature = base64.b64encode(hmac.digest(SECRET.encode(), f"PUT\n\n\n{date}\n/{BUCKET}".encode(), "sha1")).decode()
    send("PUT", f"{endpoint}/{BUCKET}", None, {"Date": date, "Authorization": f"AWS {KEY}:{signature}"})


def make_keys(keyring):
    """The keys by which the cluster's parts know each other; the monitor reads all of them when it is made."""
    run(["ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"])
    for name in ("client.admin", "client.gateway", "osd.0"):
        run(["ceph-authtool", keyring, "--gen-key", "-n", name,
             "--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"])


def start_daemon(folder, started, command, name):
    """Ceph's programs go into the background by themselves, and write their ids to a file."""
    run(command)
    try:
        started.append(known(int(Path(folder / "run" / f"{name}.pid").read_text())))
    except (OSError, ValueError):
        raise Failed(f"{command[0]} left no id in {folder}/run/{name}.pid") from None
