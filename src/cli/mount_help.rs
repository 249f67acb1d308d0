//! What `bygone mount --help` and the man page say after the options.

/// Sections, each under a heading that ends in a colon.
pub(super) const AFTER_OPTIONS: &str = "Examples:
  bygone mount /mnt/past                        every point
  bygone mount --point yesterday /mnt/past      one of them
  bygone mount --allow-other --host moon /mnt/past
  bygone umount /mnt/past                       umount(8) does it too

Tuning: what each option costs and gains
  --cache-memory SIZE  Plain bytes of what was fetched, 64M unless told otherwise, never more. Gains: what several
                       programs read, or one reads again, is fetched, checked and decompressed once. The kernel keeps
                       files and names as well, in memory that others may have back, so that more than the default
                       seldom pays for a repository on a local disk. Costs: that much memory, beside some 50 MiB that
                       every mount may take. Below 16M frames are decompressed several times when many programs read.
  --point POINT        Gains: nothing is looked for every 2 seconds, and the kernel asks for no name twice. Costs: new
                       points do not appear.
  --allow-other        Costs: the kernel asks for the ACL of each file that it has not seen.
  --no-permissions     Costs: access(2), as in test -r, is a request each time.
  --owner, -o noexec   Nothing either way.

Log:
  In the background and with --log-file, the coming and going of the mount, warnings and errors; in the foreground
  warnings and errors, and the rest with -v. At the end, and whenever SIGUSR1 comes, one line tells what was done, as in
    served lookup=12 getattr=3 readdirplus=40 read=200; pushed files=900 bytes=1234567; frames opened=44;
    fetched requests=50 bytes=123456; cache bytes=1000 peak=2000 limit=67108864
  (all on one line, bytes in full; kinds of requests that did not occur are left out):
    served   requests of the kernel, by kind
    pushed   small files that were put into the kernel's page cache before anyone asked, and their bytes
    frames   fetched, verified and decompressed
    fetched  requests to the repository for content and entries, and the bytes that they brought
    cache    what --cache-memory limits: bytes now, the most that they were, and the limit

JSON: once the mount answers, an object with
  mount_point  the folder
  repository   the repository's id
  point        the id of the point that it shows; null if it shows all
  process      the process that serves it";
