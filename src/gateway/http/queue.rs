//! Topics and their messages.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Gateway;
use super::answer::{Answered, Refusal, json, success};
use super::request::Call;
use super::text::Text;
use crate::machine::command::{Answer, Change, MAX_ITEMS, Query};
use crate::machine::queue::command::{QueueAnswer, QueueChange, QueueQuery, TopicInfo, TopicLimits};

/// The body of `PUT /topic`.
#[derive(Deserialize)]
struct NewTopic {
    topic: String,
    max_messages: Option<u64>,
    max_bytes: Option<u64>,
    max_deliveries: Option<u32>,
}

pub async fn create(gateway: Arc<Gateway>, call: Call) -> Answered {
    let NewTopic { topic, max_messages, max_bytes, max_deliveries } = call.json()?;
    let usual = TopicLimits::default();
    let limits = TopicLimits {
        messages: max_messages.unwrap_or(usual.messages),
        bytes: max_bytes.unwrap_or(usual.bytes),
        deliveries: max_deliveries.unwrap_or(usual.deliveries),
    };
    match change_topic(&gateway, &call, topic.into(), QueueChange::Create { limits }).await? {
        Answer::Count(0) => Err(Refusal::new(StatusCode::CONFLICT, "topic_exists", "there is such a topic already")),
        Answer::Count(_) => Ok(success(&gateway, StatusCode::CREATED)),
        _ => Err(Refusal::another()),
    }
}

/// `GET /topic`.
#[derive(Serialize)]
struct TopicList {
    success: bool,
    topics: Vec<Text>,
}

pub async fn list(gateway: Arc<Gateway>, call: Call) -> Answered {
    let (mut names, mut last, mut more) = (Vec::new(), 0, true);
    while more {
        let page = Query::Queue(QueueQuery::Topics { after: last, limit: MAX_ITEMS });
        let Answer::Queue(QueueAnswer::Topics { topics, more: follow }) =
            gateway.read(call.client.connection, page).await?
        else {
            return Err(Refusal::another());
        };
        // Never round and round, whatever the answer.
        more = follow && !topics.is_empty();
        last = topics.last().map_or(last, |(number, _)| *number);
        names.extend(topics.into_iter().map(|(_, name)| Text(name)));
    }
    Ok(json(&gateway, StatusCode::OK, &TopicList { success: true, topics: names }))
}

/// The body of `PUT /message`.
#[derive(Deserialize)]
struct NewMessage {
    topic: String,
    message: String,
}

pub async fn put(gateway: Arc<Gateway>, call: Call) -> Answered {
    let NewMessage { topic, message } = call.json()?;
    let put = QueueChange::Put { message: message.into(), create: false };
    match change_topic(&gateway, &call, topic.into(), put).await? {
        Answer::Queue(QueueAnswer::Put { .. }) => Ok(success(&gateway, StatusCode::CREATED)),
        Answer::Queue(QueueAnswer::NoTopic) => Err(Refusal::no_such_topic()),
        Answer::Queue(QueueAnswer::Full { limits }) => {
            let TopicLimits { messages, bytes, .. } = limits;
            let message = format!("the topic is full: it takes at most {messages} messages and {bytes} bytes");
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "topic_full", message))
        }
        _ => Err(Refusal::another()),
    }
}

/// `GET /message/{topic}`.
#[derive(Serialize)]
struct Popped {
    success: bool,
    message: Text,
}

/// Removes the oldest message. One whose client goes away before it has the answer is gone all the same.
pub async fn pop(gateway: Arc<Gateway>, call: Call) -> Answered {
    let taken = match change(&gateway, &call, QueueChange::Take { max: 1 }).await? {
        Answer::Queue(QueueAnswer::Messages(messages)) => messages.into_iter().next(),
        Answer::Queue(QueueAnswer::NoTopic) => return Err(Refusal::no_such_topic()),
        _ => return Err(Refusal::another()),
    };
    let no_message = || Refusal::new(StatusCode::NOT_FOUND, "no_message", "the topic has no message that is ready");
    let message = Text(taken.ok_or_else(no_message)?);
    Ok(json(&gateway, StatusCode::OK, &Popped { success: true, message }))
}

/// `GET /topic/{topic}`.
#[derive(Serialize)]
struct Topic {
    success: bool,
    topic: Text,
    length: u64,
    leased: u64,
    bytes: u64,
    oldest_ms: Option<u64>,
    max_messages: u64,
    max_bytes: u64,
    max_deliveries: u32,
}

pub async fn info(gateway: Arc<Gateway>, call: Call) -> Answered {
    let query = Query::Queue(QueueQuery::Info { topic: call.name() });
    let TopicInfo { messages, leased, bytes, oldest_ms, limits } =
        match gateway.read(call.client.connection, query).await? {
            Answer::Queue(QueueAnswer::Info(info)) => info,
            Answer::Queue(QueueAnswer::NoTopic) => return Err(Refusal::no_such_topic()),
            _ => return Err(Refusal::another()),
        };
    let topic = Topic {
        success: true,
        topic: Text(call.name()),
        length: messages,
        leased,
        bytes,
        oldest_ms,
        max_messages: limits.messages,
        max_bytes: limits.bytes,
        max_deliveries: limits.deliveries,
    };
    Ok(json(&gateway, StatusCode::OK, &topic))
}

pub async fn delete(gateway: Arc<Gateway>, call: Call) -> Answered {
    match change(&gateway, &call, QueueChange::Delete).await? {
        Answer::Count(0) => Err(Refusal::no_such_topic()),
        Answer::Count(_) => Ok(success(&gateway, StatusCode::OK)),
        _ => Err(Refusal::another()),
    }
}

/// `POST /topic/{topic}/purge`.
#[derive(Serialize)]
struct Purged {
    success: bool,
    removed: u64,
}

pub async fn purge(gateway: Arc<Gateway>, call: Call) -> Answered {
    match change(&gateway, &call, QueueChange::Purge).await? {
        Answer::Count(removed) => Ok(json(&gateway, StatusCode::OK, &Purged { success: true, removed })),
        Answer::Queue(QueueAnswer::NoTopic) => Err(Refusal::no_such_topic()),
        _ => Err(Refusal::another()),
    }
}

/// Changes the topic in the path.
pub async fn change(gateway: &Gateway, call: &Call, change: QueueChange) -> Result<Answer, Refusal> {
    change_topic(gateway, call, call.name(), change).await
}

async fn change_topic(gateway: &Gateway, call: &Call, topic: Bytes, change: QueueChange) -> Result<Answer, Refusal> {
    gateway.change(call, Vec::new(), Change::Queue { topic, change }).await
}
