//! Commands to requests.

use super::command::{self, Command, Usage};
use super::output::Output;
use crate::client::{Client, Error};

/// Runs a command. `watch` and `quit` are not for here: they do nothing.
pub fn execute(client: &mut Client, command: &Command) -> Result<Output, Error> {
    Ok(match command {
        Command::Set { key, value } => client.set(key, value).map(|()| Output::Done)?,
        Command::Get { key } => Output::Value { key: key.clone(), value: client.get(key)? },
        Command::Cas { key, from, to } => client.cas(key, from, to).map(|()| Output::Done)?,
        Command::Delete { key } => Output::Deleted(client.delete(&[key])?),
        Command::List { prefix } => list(client, prefix)?,
        Command::Status => Output::Status(client.status_of_all()),
        Command::Leader => Output::Leader(client.leader()?),
        Command::Transfer { to } => {
            let to = client.find(to)?.id;
            client.transfer(to).map(|()| Output::Done)?
        }
        Command::Log { node, from } => {
            let node = client.find(node)?.clone();
            Output::Log { entries: client.log(node.id, *from)?, node }
        }
        Command::State { node } => {
            let node = client.find(node)?.clone();
            Output::State { state: client.state(node.id)?, node }
        }
        Command::Debug { node: Some(node) } => {
            let node = client.find(node)?.id;
            client.debug(node).map(|()| Output::Done)?
        }
        Command::Debug { node: None } => debug_all(client)?,
        Command::Send { node, command } => {
            let node = client.find(node)?.id;
            execute(&mut client.only(node)?, command)?
        }
        Command::Help { topic } => Output::Help(topic.map_or_else(command::overview, Usage::explain)),
        Command::Queue(command) => command.execute(client)?,
        Command::Watch { .. } | Command::Quit => Output::Done,
    })
}

/// All keys that begin with `prefix`, part by part.
fn list(client: &mut Client, prefix: &[u8]) -> Result<Output, Error> {
    let mut items = client.list(prefix, None)?;
    while let Some((last, _)) = items.last().cloned() {
        let part = client.list(prefix, Some(&last))?;
        match part.first() {
            Some((first, _)) if *first > last => items.extend(part),
            Some(_) => return Err(Error::Protocol("the node lists keys out of order: is it another version?".into())),
            None => break,
        }
    }
    Ok(Output::Items(items))
}

fn debug_all(client: &mut Client) -> Result<Output, Error> {
    let answers = client.debug_all();
    let failed: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.as_ref().err()).map(Error::to_string).collect();
    match failed.len() {
        0 => Ok(Output::Done),
        count => Err(Error::Unreachable(format!("{count} of {} nodes: {}", answers.len(), failed.join("; ")))),
    }
}
