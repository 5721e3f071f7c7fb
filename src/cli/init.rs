//! `raft init`: writes a commented raft.ini.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use raft::config::Config;

use super::Error;
use super::args::InitArgs;

pub fn run(args: &InitArgs) -> Result<ExitCode, Error> {
    let path = args.output.display();
    let config = Config::local(args.nodes.into(), Config::default().data_directory);
    let mut file = File::create_new(&args.output).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Error::Failed(format!("{path} exists already and is left as it is; -o names another file to write"))
        }
        _ => Error::failed(format!("cannot create {path}"), error),
    })?;
    file.write_all(config.to_ini().as_bytes())
        .map_err(|error| Error::failed(format!("cannot write {path}, which is incomplete now"), error))?;
    let _ = writeln!(std::io::stdout(), "wrote {path}; next: raft cluster -c {path}");
    Ok(ExitCode::SUCCESS)
}
