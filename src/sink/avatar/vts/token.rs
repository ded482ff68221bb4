//! The tokens of VTube Studio: one for each address, in a file of the user.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::{secrets, source};

/// Name of the file.
const FILE: &str = "vts-tokens.json";

/// The token of one address.
pub(super) struct Token {
    /// The file; `None` for a user without a home.
    file: Option<PathBuf>,
    address: String,
    token: Option<String>,
}

impl Token {
    /// The token for this address that was kept in this folder, if there is one.
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub(super) fn open(folder: Option<PathBuf>, address: String) -> (Self, io::Result<()>) {
        let file = folder.map(|folder| folder.join(FILE));
        let mut this = Self { file, address, token: None };
        let read = this.all().map(|all| this.set(all.get(&this.address).cloned()));
        (this, read)
    }

    fn all(&self) -> io::Result<BTreeMap<String, String>> {
        let Some(file) = &self.file else { return Ok(BTreeMap::new()) };
        let Some(text) = secrets::read(file)? else { return Ok(BTreeMap::new()) };
        // A message of the parser could hold a part of the file.
        serde_json::from_str(&text).map_err(|_| io::Error::other("it is no JSON"))
    }

    fn set(&mut self, token: Option<String>) {
        // No message may hold it, whoever writes the message.
        token.as_deref().into_iter().for_each(source::hide);
        self.token = token;
    }

    /// The token, if there is one.
    pub(super) fn get(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Keeps a new token, for this run and the next.
    ///
    /// # Errors
    /// Why it is kept for this run only.
    pub(super) fn keep(&mut self, token: String) -> io::Result<()> {
        self.set(Some(token.clone()));
        let Some(file) = self.file.clone() else {
            return Err(io::Error::other("the user has no home folder"));
        };
        // What cannot be read is of no use to anybody, and replaced.
        let mut all = self.all().unwrap_or_default();
        all.insert(self.address.clone(), token);
        secrets::write(&file, &serde_json::to_string_pretty(&all)?)
    }

    /// Forgets the token, which is no good any more.
    pub(super) fn forget(&mut self) {
        self.token = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |address: &str| {
            let (token, read) = Token::open(Some(folder.path().into()), address.into());
            read.expect("readable");
            token
        };
        assert_eq!(open("a:1").get(), None);
        open("a:1").keep("first-token".into()).expect("kept");
        open("b:1").keep("other-token".into()).expect("kept");
        open("a:1").keep("second-token".into()).expect("kept");
        assert_eq!(
            (open("a:1").get(), open("b:1").get()),
            (Some("second-token"), Some("other-token"))
        );
        assert_eq!(source::mask("it is second-token."), "it is ***.");
    }

    #[test]
    fn a_damaged_file_is_told_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), "{\"a:1\": \"half").expect("written");
        let (mut token, read) = Token::open(Some(folder.path().into()), "a:1".into());
        assert!(!read.expect_err("damaged").to_string().contains("half"));
        token.keep("whole".into()).expect("kept");
        assert_eq!(Token::open(Some(folder.path().into()), "a:1".into()).0.get(), Some("whole"));
        assert!(Token::open(None, "a:1".into()).0.keep("x".into()).is_err());
    }
}
