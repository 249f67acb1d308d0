//! The program: everything is in the library, `bygone::cli` reads the arguments, runs the command and names the exit
//! code.

use std::process::ExitCode;

fn main() -> ExitCode {
    bygone::cli::main()
}
