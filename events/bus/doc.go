// Package bus carries records of the logs to process managers, by watermill's
// Publisher and Subscriber. A topic is a log. There is no second queue: what a
// consumer gets is read from the log, from where its cursor stands.
//
//   - [Subscriber] follows a log over all its epochs: in order, one message at a
//     time, from the consumer's stored cursor. An Ack moves the cursor; a Nack
//     brings the same message again after a pause. So delivery is at least once,
//     and a handler that blocks holds back its own consumer and nobody else.
//   - [Publisher] appends drafts. A message to publish is a draft in another
//     form ([DraftMessage]); anything else is refused, since a log holds events
//     of the catalogue and nothing besides.
//   - [NewRouter] and [Handle] wire process managers.
//
// A process manager may see an event again after a crash. It keys what it does
// by the id of the causing event (Record.Header.ID): the events that it makes
// carry it as their parent, and before it acts it looks whether that was done.
package bus
