//! Commands about the connection itself, and what the connection remembers.

use std::sync::Arc;

use bytes::Bytes;

use super::RespOptions;
use super::command::{Action, Ran, integer, number, ok, reply, syntax_error, unknown_subcommand, upper, wrong_arity};
use super::frame::{Frame, Protocol};
use super::info::REDIS_VERSION;
use super::transaction::Transaction;

/// Longest name that a client may give itself: it is kept as long as the connection.
const MAX_NAME_BYTES: usize = 256;

/// What is known about a client.
pub struct Client {
    id: u64,
    options: Arc<RespOptions>,
    protocol: Protocol,
    name: Bytes,
    library_name: Bytes,
    library_version: Bytes,
    /// What is queued and watched.
    pub transaction: Transaction,
}

impl Client {
    /// A client that has said nothing yet.
    pub fn new(id: u64, options: Arc<RespOptions>) -> Self {
        let (name, library_name, library_version) = Default::default();
        let (protocol, transaction) = Default::default();
        Client { id, options, protocol, name, library_name, library_version, transaction }
    }

    /// The connection's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The protocol that the client speaks now.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the gateway was told at the start.
    pub fn options(&self) -> &RespOptions {
        &self.options
    }

    /// The client in one line, as Redis puts it.
    fn describe(&self) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} name={} db=0 resp={} lib-name={} lib-ver={}\n",
            self.id,
            text(&self.name),
            self.protocol.number(),
            text(&self.library_name),
            text(&self.library_version)
        )
    }
}

/// `PING [message]`
pub fn ping(_: &mut Client, request: &[Bytes]) -> Ran {
    match request {
        [_] => reply(Frame::Simple("PONG")),
        [_, message] => reply(Frame::Bulk(message.clone())),
        _ => Err(wrong_arity("ping")),
    }
}

/// `ECHO message`
pub fn echo(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, message] = request else { return Err(wrong_arity("echo")) };
    reply(Frame::Bulk(message.clone()))
}

/// `QUIT`
pub fn quit(_: &mut Client, _: &[Bytes]) -> Ran {
    Ok(Action::Quit)
}

/// `RESET`
pub fn reset(client: &mut Client, _: &[Bytes]) -> Ran {
    (client.protocol, client.name, client.transaction) = Default::default();
    reply(Frame::Simple("RESET"))
}

/// `SELECT 0`
pub fn select(_: &mut Client, request: &[Bytes]) -> Ran {
    let [_, database] = request else { return Err(wrong_arity("select")) };
    if integer(database)? == 0 { ok() } else { Err(Frame::error("ERR DB index is out of range")) }
}

/// `AUTH [user] password`. There is no password: the user `default` gets in with any, as in a Redis without one.
pub fn auth(_: &mut Client, request: &[Bytes]) -> Ran {
    match request {
        [_, _] => Err(Frame::error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [_, user, _] => check_user(user).and_then(|()| ok()),
        _ => Err(syntax_error()),
    }
}

fn check_user(user: &[u8]) -> Result<(), Frame> {
    let known = user == b"default";
    known.then_some(()).ok_or_else(|| Frame::error("WRONGPASS invalid username-password pair or user is disabled."))
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`. An error changes nothing.
pub fn hello(client: &mut Client, request: &[Bytes]) -> Ran {
    let protocol = match request.get(1).map(|version| number(version)) {
        None => client.protocol,
        Some(Ok(2)) => Protocol::Resp2,
        Some(Ok(3)) => Protocol::Resp3,
        Some(Ok(_)) => return Err(Frame::error("NOPROTO unsupported protocol version")),
        Some(Err(_)) => return Err(Frame::error("ERR Protocol version is not an integer or out of range")),
    };
    let mut name = None;
    let mut options = request.get(2..).unwrap_or_default();
    while let Some((option, _)) = options.split_first() {
        options = match (upper(option).as_str(), options) {
            ("AUTH", [_, user, _, rest @ ..]) => check_user(user).map(|()| rest)?,
            ("SETNAME", [_, given, rest @ ..]) => {
                name = Some(check_name(given)?);
                rest
            }
            (option, _) => return Err(Frame::error(format!("ERR Syntax error in HELLO option '{option}'"))),
        };
    }
    client.protocol = protocol;
    client.name = name.unwrap_or_else(|| client.name.clone());
    reply(Frame::Map(vec![
        (Frame::text("server"), Frame::text("redis")),
        (Frame::text("version"), Frame::text(REDIS_VERSION)),
        (Frame::text("proto"), Frame::Integer(protocol.number())),
        (Frame::text("id"), Frame::number(client.id)),
        (Frame::text("mode"), Frame::text("standalone")),
        (Frame::text("role"), Frame::text("master")),
        (Frame::text("modules"), Frame::Array(Vec::new())),
    ]))
}

/// A name is copied, since it outlives the request.
fn check_name(name: &[u8]) -> Result<Bytes, Frame> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Frame::error(format!("ERR a name has at most {MAX_NAME_BYTES} bytes")));
    }
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(Bytes::copy_from_slice(name));
    }
    Err(Frame::error("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// `CLIENT subcommand ...`
pub fn client(client: &mut Client, request: &[Bytes]) -> Ran {
    let [_, subcommand, arguments @ ..] = request else { return Err(wrong_arity("client")) };
    let name = upper(subcommand);
    match (name.as_str(), arguments) {
        ("ID", []) => reply(Frame::number(client.id)),
        ("GETNAME", []) if client.name.is_empty() => reply(Frame::Null),
        ("GETNAME", []) => reply(Frame::Bulk(client.name.clone())),
        ("SETNAME", [name]) => {
            client.name = check_name(name)?;
            ok()
        }
        ("SETINFO", [attribute, value]) => set_info(client, attribute, value),
        ("INFO" | "LIST", []) => reply(Frame::Verbatim(client.describe())),
        ("NO-EVICT" | "NO-TOUCH", [switch]) => match upper(switch).as_str() {
            "ON" | "OFF" => ok(),
            _ => Err(syntax_error()),
        },
        ("REPLY", [switch]) => match upper(switch).as_str() {
            "ON" => ok(),
            _ => Err(Frame::error("ERR not supported: every request is answered")),
        },
        ("ID" | "GETNAME" | "SETNAME" | "SETINFO" | "INFO" | "LIST" | "NO-EVICT" | "NO-TOUCH" | "REPLY", _) => {
            Err(wrong_arity(&format!("client|{}", name.as_str().to_ascii_lowercase())))
        }
        _ => Err(unknown_subcommand("client", subcommand)),
    }
}

fn set_info(client: &mut Client, attribute: &[u8], value: &[u8]) -> Ran {
    let place = match upper(attribute).as_str() {
        "LIB-NAME" => &mut client.library_name,
        "LIB-VER" => &mut client.library_version,
        other => return Err(Frame::error(format!("ERR Unrecognized option '{other}'"))),
    };
    *place = check_name(value)?;
    ok()
}
