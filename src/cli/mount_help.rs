//! What `bygone mount --help` and the man page say after the options.

/// Sections, each under a heading that ends in a colon.
pub(super) const AFTER_OPTIONS: &str = "Examples:
  bygone mount /mnt/past                        every point
  bygone mount --point yesterday /mnt/past      one of them
  bygone mount --allow-other --host moon /mnt/past
  bygone umount /mnt/past                       umount(8) does it too
  mount -t bygone /srv/backup /mnt/past -o point=latest,allow_other

Views: made when somebody looks, without --point
  history/PATH/          what was ever in the folder PATH, in any point, each with a history of its own; and PATH itself,
                         folder or file, as @ID for each point that shows a new version of it, with a file's suffix, so
                         that names sort by time. A real name that begins with @ has one more of them.
  diff/A..B/added        what came from point A to point B, diff/A..B/changed what changed, as B has it, and
                         diff/A..B/removed what went, each with the folders on the way to it. What is of another type now
                         has changed. A and B may be anything that POINT may; points that follow one another are listed.
  Files are the very ones below points/, with the same inode numbers, and what was read of them is in memory once. The first
  look opens the chains of all points; what differs between two takes some hundred bytes of memory a path, for the last
  four pairs.

Password: where that of an encrypted repository comes from
  --password-file, --password-command or BYGONE_PASSWORD; else it is asked for at the terminal, before the mount goes
  into the background. In fstab: the option password_file=FILE or password_command=COMMAND.

fstab: lines such as these, with the helper that scripts/install puts in place
  /srv/backup  /mnt/past  bygone  noauto,allow_other                                   0 0
  bygone:home  /mnt/past  bygone  nofail,x-systemd.automount,allow_other,point=latest  0 0
  The first word is a repository's place, or bygone: and its name in /etc/bygone/config.toml; see bygone-config(5).
  A map of autofs:
  past  -fstype=bygone,allow_other  :/srv/backup

Mount options: what may follow -o, separated by commas
  The options above without their dashes, with = before a value: allow_other, no_permissions, foreground, point=POINT,
  owner=UID:GID, refresh=SECONDS, timeout=TIME, cache_memory=SIZE, log_file=FILE, metrics_file=FILE, host=HOST, set=NAME,
  path=PATH, label=K=V. Of those that all commands have: cache_dir=DIR, cache_size=SIZE, limit_download=SIZE,
  store_option=K=V (several times, if need be), password_file=FILE and password_command=COMMAND. And noexec; and nonempty,
  to hide what is in the folder. What every mount is (ro, nosuid, nodev), and what only readers of fstab need (noauto,
  user, nofail, _netdev, x-systemd.automount and its like), is taken too. A value cannot have a comma in it.

Tuning: what each option costs and gains
  --cache-memory SIZE  How much of what was fetched is kept, decompressed: 64M unless told otherwise, and never more.
                       Gains: what several programs read at a time, or one reads here and there, is fetched, verified
                       and decompressed once. For one that reads in order, 4M do; with 1M it is fetched three times
                       over, and takes twice as long. Beyond the default little is gained, since the kernel keeps
                       names and content too, in memory that others can have back. Costs: that memory, beside
                       some 50 MiB that every mount may take, and 75 MiB with a million files.
  --timeout TIME       How long a repository over a network may keep a reader waiting: 30s unless told otherwise. Then the
                       reader gets EIO, the mount lives on, and what is in memory is served; once the repository
                       answers again, so does the mount. For a second, what has just failed is not waited for again.
  --refresh SECONDS    How often to look for new points. A distant repository is asked each time, by one request, which the
                       store may charge for. All points are listed every 60th time, so that forgotten ones go.
  --point POINT        Gains: new points are not looked for every 2 seconds, and names need not be asked for again.
                       Costs: new points do not appear.
  --allow-other        Costs: the kernel asks for the ACL of each file before it opens it for the first time.
  --no-permissions     Gains: that question is spared. Costs: each access(2), as of test -r, is a request.
  --owner, -o noexec, --foreground, --log-file, -v
                       Nothing either way; -vv and -vvv are for finding faults, and slow.
  Mounted by root      Gains: the kernel reads large files ahead by 1 MiB rather than 128 KiB, and whoever asks one small
                       thing after another is served on its own processor, as waking another one takes longer than the
                       answer: find and cp -a take a third less. Costs: a page of a mapped file brings its neighbours.

Waiting: what takes time, and what does not
  What is in memory is served at once, however long the repository takes to answer, by as many threads as there are
  processors. Up to 64 more, made when they are needed, wait for the repository; with ulimit -n below 256, a fourth of
  that. A program that waits for the content of a file can be killed. Over a network, what a reader asks for next is
  fetched before it asks: the rest of a large file that is read in order, and the files that follow in a walk, as much as
  the network was seen to bring in the time that it takes to answer, and never more than a quarter of --cache-memory.

Log:
  In the background and with --log-file: the coming and going of the mount, warnings and errors. In the foreground:
  warnings and errors, and the rest with -v. At the end, and whenever SIGUSR1 comes, one line tells what was done, as in
    served lookup=12 getattr=3 readdirplus=40 read=200; pushed files=900 bytes=1234567; frames opened=44;
    fetched requests=50 bytes=123456; cache bytes=1000 peak=2000 limit=67108864
  (all on one line, bytes in full; kinds of requests that did not occur are left out):
    served   requests of the kernel, by kind
    pushed   small files that were put into the kernel's page cache before anyone asked, and their bytes
    frames   fetched, verified and decompressed
    fetched  requests to the repository for content and entries, and the bytes that they brought
    cache    what --cache-memory limits: bytes now, the most that they were, and the limit

Metrics: what --metrics-file keeps, for the textfile collector of Prometheus' node exporter (name the file *.prom)
  Written when the mount begins, every 15 seconds, and when it ends, each time whole and under another name first. All
  begin with bygone_mount_ and have the labels mount_point and repository:
    up, start_time_seconds         is it mounted, and since when
    requests_total                 requests of the kernel, by kind
    errors_total                   requests that failed
    read_bytes_total               bytes of files that readers were given
    cache_hits_total, cache_misses_total, cache_bytes          what --cache-memory gains and holds
    store_requests_total, store_read_bytes_total               requests to the repository, and what these brought
  bygone mounts tells the most important ones of all mounts.

Extended attributes: told when asked for by name, as by getfattr -n, and not listed, so that no copy carries them
  user.bygone.point    the id of the point that recorded this version first; of a folder, the last change below it
  user.bygone.hash     BLAKE3 of a file's content, in hexadecimal, where it is recorded or one chunk is the file
  user.bygone.chunks   how many chunks a file's content is in; then their ids, a line each, if they are 1000 at most
  user.bygone.local    how many bytes of a file's content can be had without a network
  user.bygone.btime    the birth time, in seconds and nanoseconds since 1970, where it is recorded

Sudden end:
  If the mount's process is killed, whoever uses the mount gets ENOTCONN, and bygone mount at the same place clears the
  dead mount away. A second process, mount-watch, sees to it: the kernel alone would let readers hang if the first one died
  in the instant in which it put a file into the page cache. Should both be killed at once and readers hang, umount -f frees
  them.

JSON: once the mount answers, an object with
  mount_point  the folder
  repository   the repository's id
  point        the id of the point that it shows; null if it shows all
  process      the process that serves it";
