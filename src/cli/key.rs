//! `bygone key`: the passwords that open an encrypted repository.

use clap::Subcommand;
use serde::Serialize;

use super::backup::{this_host, this_user};
use super::context::Context;
use super::outcome::Outcome;
use super::output::{local_time, table, text_of};
use super::password::{NewPasswordArguments, PasswordSource};
use crate::base::{KeyId, Result};
use crate::format::KeyDescription;
use crate::ops::keys::remove;
use crate::repo::{Key, Repository, add_key, change_password, keys};
use crate::seal::Derivation;

/// Add, list, remove and change the passwords that open an encrypted repository
///
/// Each password has a key of its own, a small object that holds the repository's master key; any of them opens
/// everything. A password is lost for good if no other one opens the repository. To take a key away shuts its password
/// out of the repository as it stands; whoever had the password and a copy of the key before still has the master key,
/// and only a new repository has another one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone key list
  bygone key add --label laptop
  bygone key remove 3f9a
  bygone key change-password

JSON of list: an array of objects, and of the other commands an object with the id alone
  id        the key's id
  current   whether the password that was given is this key's
  created   when it was made, as RFC 3339; null, like the following, if the key is damaged
  host      the host that it was made on
  user      the user who made it
  label     what it is called; null if it has no name")]
pub struct Arguments {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Let another password open the repository
    Add(AddArguments),
    /// List the keys; nothing tells their passwords
    List,
    /// Take a key away, so that its password opens the repository no more
    Remove(RemoveArguments),
    /// Replace the key of the password that was given by one of another password
    ChangePassword(ChangeArguments),
}

#[derive(Debug, clap::Args)]
struct AddArguments {
    #[command(flatten)]
    password: NewPasswordArguments,

    /// What to call the key
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RemoveArguments {
    /// The key's id, or as much of its beginning as no other has
    #[arg(value_name = "KEY")]
    key: String,
}

#[derive(Debug, clap::Args)]
struct ChangeArguments {
    #[command(flatten)]
    password: NewPasswordArguments,

    /// What to call the key
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// A key as JSON has it.
#[derive(Serialize)]
struct ListedKey {
    id: KeyId,
    current: bool,
    created: Option<jiff::Timestamp>,
    host: Option<String>,
    user: Option<String>,
    label: Option<String>,
}

#[derive(Serialize)]
struct ChangedKey {
    id: KeyId,
}

/// Does what was asked.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    match &arguments.command {
        KeyCommand::List => return list(&repository, context),
        KeyCommand::Add(arguments) => {
            // Before anything is asked of a person for nothing.
            keys(&repository)?;
            let password = PasswordSource::from(&arguments.password).new_one(context.output())?;
            let description = description(context, arguments.label.as_deref());
            let id = add_key(&repository, &password, Derivation::default(), &description)?;
            tell(context, id, "Added key")?;
        }
        KeyCommand::Remove(arguments) => {
            let id = remove(&repository, &arguments.key)?;
            tell(context, id, "Removed key")?;
        }
        KeyCommand::ChangePassword(arguments) => {
            keys(&repository)?;
            let password = PasswordSource::from(&arguments.password).new_one(context.output())?;
            let description = description(context, arguments.label.as_deref());
            let id = change_password(&repository, &password, Derivation::default(), &description)?;
            tell(context, id, "The new password's key is")?;
        }
    }
    Ok(Outcome::Done)
}

/// Who makes a key, where and when.
pub(super) fn description(context: &Context, label: Option<&str>) -> KeyDescription {
    KeyDescription {
        created: context.now().timestamp(),
        host: this_host(),
        user: this_user(),
        label: label.map(str::to_owned),
    }
}

fn tell(context: &Context, id: KeyId, done: &str) -> Result<()> {
    let output = context.output();
    if context.json() {
        return output.document(&ChangedKey { id });
    }
    match context.quiet() {
        true => Ok(()),
        false => output.line(format_args!("{done} {id}.")),
    }
}

/// Lists the keys. One that is damaged is told of, and listed.
fn list(repository: &Repository, context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    let mut listed = Vec::new();
    for Key { id, description } in keys(repository)? {
        let description = description
            .inspect_err(|error| {
                context.output().warning(None, &error.to_string());
                outcome = Outcome::Damage;
            })
            .ok();
        listed.push(ListedKey {
            id,
            current: repository.key() == Some(id),
            created: description.as_ref().map(|it| it.created),
            host: description.as_ref().map(|it| it.host.clone()),
            user: description.as_ref().map(|it| it.user.clone()),
            label: description.and_then(|it| it.label),
        });
    }
    match context.json() {
        true => context.output().document(&listed)?,
        false => print_table(&listed, context)?,
    }
    Ok(outcome)
}

fn print_table(listed: &[ListedKey], context: &Context) -> Result<()> {
    let mut table = table(&["", "ID", "CREATED", "HOST", "USER", "LABEL"], &[]);
    let text = |value: &Option<String>| {
        let value = value.as_deref().unwrap_or_default();
        text_of(value.as_bytes())
    };
    for key in listed {
        table.add_row([
            if key.current { "*" } else { "" }.to_owned(),
            key.id.to_string(),
            key.created.map(local_time).unwrap_or_default(),
            text(&key.host),
            text(&key.user),
            text(&key.label),
        ]);
    }
    context.output().table(table, &["LABEL", "USER", "HOST"])
}
