//! What follows `-o`: the options of a mount as fstab writes them, each in the place of an argument or a kernel's flag.
//!
//! Options that say what every mount is anyway, and those that only fstab's readers use, are taken and mean nothing.
//! An option that asks for what a backup cannot be (writable, say) is refused, and so is one that nobody knows: a typo in
//! fstab must not silently mount something else.

use std::path::PathBuf;

use super::arguments::{GlobalArguments, parse_label, parse_size, parse_timeout};
use super::mount::{Arguments, parse_owner, parse_refresh};
use crate::base::{Error, ErrorKind, Result};

/// What every mount is, what changes nothing about one that is read-only, and what is for readers of fstab.
const WITHOUT_EFFECT: [&str; 26] = [
    "ro",
    "nosuid",
    "nodev",
    "default_permissions",
    "exec",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "diratime",
    "nodiratime",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "group",
    "nofail",
    "_netdev",
    "owner",
];

/// Applies one option, `name` or `name=value`, to what the arguments say, those of the mount or those of all commands.
///
/// # Errors
/// Usage, with the option and what is wrong with it.
pub(super) fn apply(
    arguments: &mut Arguments,
    global: &mut GlobalArguments,
    option: &str,
) -> Result<()> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    // fstab and the kernel spell with underscores, this program's arguments with dashes: both are meant.
    let spelled = name.replace('-', "_");
    match value {
        None => apply_word(arguments, name, &spelled),
        Some(value) => match spelled.as_str() {
            "cache_dir" | "cache_size" | "store_option" | "limit_download" => {
                apply_global(global, name, &spelled, value)
            }
            _ => apply_value(arguments, name, &spelled, value),
        },
    }
}

fn apply_word(arguments: &mut Arguments, name: &str, spelled: &str) -> Result<()> {
    match spelled {
        "allow_other" => arguments.allow_other = true,
        "no_permissions" => arguments.no_permissions = true,
        "foreground" => arguments.foreground = true,
        "noexec" => arguments.no_exec = true,
        "nonempty" => arguments.nonempty = true,
        "rw" => return Err(refused(name, "a restore point is never written to")),
        "suid" | "dev" => {
            return Err(refused(
                name,
                "set-user-id bits and devices of a backup are shown and never obeyed",
            ));
        }
        "allow_root" => return Err(refused(name, "use allow_other, which checks permissions")),
        _ if WITHOUT_EFFECT.contains(&spelled) || is_for_fstab(name) => {}
        _ => return Err(refused(name, "no such option")),
    }
    Ok(())
}

fn apply_value(arguments: &mut Arguments, name: &str, spelled: &str, value: &str) -> Result<()> {
    let filter = &mut arguments.filter;
    match spelled {
        "point" => arguments.point = Some(value.to_owned()),
        "owner" => arguments.owner = Some(checked(name, parse_owner(value))?),
        "timeout" => arguments.timeout = checked(name, parse_timeout(value))?,
        "cache_memory" => arguments.cache_memory = checked(name, parse_size(value))?,
        "refresh" => arguments.refresh = Some(checked(name, parse_refresh(value))?),
        "password_file" => arguments.password.file = Some(PathBuf::from(value)),
        "password_command" => arguments.password.command = Some(value.to_owned()),
        "log_file" => arguments.log_file = Some(PathBuf::from(value)),
        "metrics_file" => arguments.metrics_file = Some(PathBuf::from(value)),
        "host" => filter.host = Some(value.to_owned()),
        "set" => filter.set = Some(value.to_owned()),
        "path" => filter.path = Some(PathBuf::from(value)),
        "label" => filter.label.push(checked(name, parse_label(value))?),
        "comment" | "fsname" | "subtype" => {}
        _ if is_for_fstab(name) => {}
        _ => return Err(refused(name, "no such option")),
    }
    Ok(())
}

/// Where what is read is kept, and how the store is spoken to.
fn apply_global(
    global: &mut GlobalArguments,
    name: &str,
    spelled: &str,
    value: &str,
) -> Result<()> {
    match spelled {
        "cache_dir" if value.is_empty() => return Err(refused(name, "name a folder")),
        "cache_dir" => global.cache.cache_dir = Some(PathBuf::from(value)),
        "cache_size" => global.cache.cache_size = Some(checked(name, parse_size(value))?),
        "store_option" => checked(name, global.store.add_option(value))?,
        "limit_download" => checked(name, global.store.limit_download_to(value))?,
        _ => return Err(refused(name, "no such option")),
    }
    Ok(())
}

/// Is it one of the options that systemd and others keep for themselves?
fn is_for_fstab(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}

fn checked<T>(name: &str, parsed: std::result::Result<T, String>) -> Result<T> {
    parsed.map_err(|problem| refused(name, &problem))
}

fn refused(name: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("mount option {name:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Location;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        global: GlobalArguments,
        #[command(flatten)]
        arguments: Arguments,
    }

    fn applied_to_line(options: &str) -> Result<Line> {
        let mut line = Line::parse_from(["mount", "/mnt"]);
        options
            .split(',')
            .try_for_each(|option| apply(&mut line.arguments, &mut line.global, option))?;
        Ok(line)
    }

    fn applied(options: &str) -> Result<Arguments> {
        applied_to_line(options).map(|line| line.arguments)
    }

    #[test]
    fn options_stand_for_arguments() {
        let arguments = applied(
            "allow_other,no-permissions,noexec,foreground,point=latest~1,owner=10:20,cache-memory=1M,\
             log_file=/var/log/b,password_file=/etc/b,host=moon,set=home,path=/srv,label=a=b,label=c=d",
        )
        .unwrap();
        assert!(arguments.allow_other && arguments.no_permissions);
        assert!(arguments.no_exec && arguments.foreground);
        assert_eq!(arguments.point.as_deref(), Some("latest~1"));
        assert_eq!(arguments.owner.unwrap().uid, 10);
        assert_eq!(arguments.cache_memory, 1 << 20);
        assert_eq!(arguments.log_file, Some("/var/log/b".into()));
        assert_eq!(arguments.password.file, Some("/etc/b".into()));
        let filter = arguments.filter;
        assert_eq!(filter.host.as_deref(), Some("moon"));
        assert_eq!(filter.label.len(), 2);
    }

    #[test]
    fn options_stand_for_those_of_all_commands_that_a_mount_needs() {
        let line = applied_to_line(
            "cache_dir=/var/cache/b,cache-size=5G,limit_download=2M,store_option=region=moon,\
             store-option=endpoint=http://localhost:1",
        )
        .unwrap();
        let cache = line.global.cache;
        assert_eq!(cache.cache_dir, Some("/var/cache/b".into()));
        assert_eq!(cache.cache_size, Some(5 << 30));
        let place = Location::parse("s3://bucket/prefix".as_ref()).unwrap();
        let settings = line.global.store.settings(&place).unwrap();
        assert_eq!(settings.get("region"), Some("moon"));
        assert_eq!(settings.get("endpoint"), Some("http://localhost:1"));
        assert!(settings.rates.download.is_some() && settings.rates.upload.is_none());
    }

    #[test]
    fn what_every_mount_is_and_what_is_for_fstab_changes_nothing() {
        let arguments = applied(
            "defaults,ro,nosuid,nodev,noauto,users,owner,_netdev,nofail,x-systemd.automount,\
             x-systemd.idle-timeout=60,comment=backup,relatime",
        )
        .unwrap();
        assert!(!arguments.allow_other && arguments.owner.is_none());
    }

    #[test]
    fn what_cannot_be_and_what_is_unknown_is_refused_by_name() {
        for option in [
            "rw",
            "suid",
            "dev",
            "allow_root",
            "alow_other",
            "pont=latest",
            "owner=me",
            "cache_memory=lots",
            "label=x",
            "cache_dir=",
            "cache_dir",
            "cache_size=lots",
            "limit_download=0",
            "store_option=region",
            "store_option=secret_access_key=x",
            "",
        ] {
            let error = applied(option).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Usage, "{option}");
        }
    }
}
