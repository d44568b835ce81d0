//! The client of the REST interface that all commands use.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value as Json;
use tollgate_control_plane::http_client::http_client;

use super::CliError;

/// How long a command waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a command may read a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Which control plane, and who asks.
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// Address of the control plane.
    #[arg(long, env = "TOLLGATE_SERVER", default_value = "http://127.0.0.1:8700", value_name = "URL")]
    server: String,
    /// An admin token; to look at things, a read token does.
    #[arg(long, env = "TOLLGATE_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A client of one control plane.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Client {
    /// The client that the arguments ask for.
    pub fn new(arguments: &ClientArguments) -> Result<Self, CliError> {
        let base = Url::parse(&arguments.server).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let base = base.ok_or_else(|| {
            let server = &arguments.server;
            CliError::Usage(format!(
                "{server:?} is no address of a control plane; give one such as http://127.0.0.1:8700"
            ))
        })?;
        let token = arguments.token.clone().ok_or_else(|| {
            CliError::Usage("a token is needed: give --token, or set TOLLGATE_ADMIN_TOKEN".to_owned())
        })?;
        let http = http_client(TIMEOUT).map_err(|source| CliError::Serve {
            what: "cannot read this machine's certificates".to_owned(),
            source: source.into(),
        })?;
        Ok(Self { http, base, token })
    }

    /// A request to the path of these segments, each of which may hold any character.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Fails only for addresses without a path, which http and https never are.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request; answers its JSON (null for an empty answer), or why not.
    pub async fn send(&self, request: RequestBuilder) -> Result<Json, CliError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        let json: Option<Json> = match body.is_empty() {
            true => Some(Json::Null),
            false => serde_json::from_slice(&body).ok(),
        };
        match json {
            Some(json) if status.is_success() => Ok(json),
            Some(json) if json.get("code").is_some() => Err(CliError::Problem(json)),
            _ => Err(CliError::NotTollgate { server: self.base.to_string(), status: status.as_u16() }),
        }
    }

    /// Sends a request whose answer is no JSON; answers its text, or why not.
    pub async fn text(&self, request: RequestBuilder) -> Result<String, CliError> {
        let answer = self.open(request).await?;
        answer.text().await.map_err(|source| self.unreachable(source))
    }

    /// Sends a request whose answer is a stream, and takes as long as it takes; answers it once it begins well.
    pub async fn open(&self, request: RequestBuilder) -> Result<reqwest::Response, CliError> {
        let request = request.timeout(STREAM_TIMEOUT);
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        match serde_json::from_slice::<Json>(&body) {
            Ok(json) if json.get("code").is_some() => Err(CliError::Problem(json)),
            _ => Err(CliError::NotTollgate { server: self.base.to_string(), status: status.as_u16() }),
        }
    }

    /// The next piece of a stream.
    pub async fn next(&self, answer: &mut reqwest::Response) -> Result<Option<Vec<u8>>, CliError> {
        let piece = answer.chunk().await.map_err(|source| self.unreachable(source))?;
        Ok(piece.map(|piece| piece.to_vec()))
    }

    fn unreachable(&self, source: reqwest::Error) -> CliError {
        // The address is in the sentence already.
        CliError::Unreachable { server: self.base.to_string(), source: source.without_url() }
    }

    /// All items of a list, page by page, at most `most`.
    pub async fn list(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        most: usize,
    ) -> Result<Vec<Json>, CliError> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, segments).query(query);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page = self.send(request).await?;
            found.extend(super::output::items(&page, "items").iter().cloned());
            cursor = page.get("next_cursor").and_then(Json::as_str).map(str::to_owned);
            if cursor.is_none() || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
        }
    }
}
