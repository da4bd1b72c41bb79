// Package mqtt reads devices that publish to an MQTT broker: cameras and their
// analytics, Zigbee and LoRaWAN gateways, air monitors.
//
// A [Config] is one connection, to one broker. Its driver subscribes to the
// topics that the points of its devices name, parses each payload once, and
// hands what the points find in it to the sink:
//
//	broker ~~> receive -> queue -> work: parse, look up, convert -> driver.Sink
//	                                             committed -> acknowledge ~~> broker
//
// Four goroutines live in a running driver, and Run waits for all of them: paho's
// (receive never blocks: it matches the topic and appends to a bounded queue),
// the worker, which alone owns the state of the devices, the link, which
// connects, subscribes and connects again, and the acknowledger.
//
// What it promises:
//
//   - The broker may be down at the start and at any time later. The devices are
//     then unreachable, and the link is tried again within seconds.
//   - Messages of a topic keep their order.
//   - A QoS 1 message is acknowledged once its readings are committed. With a
//     client_id the broker keeps the session, and gives again what a crash or an
//     overflow left unacknowledged. What it gives again is recognised by its packet
//     identifier and a checksum and is not read twice; across a crash too, since
//     both are committed along with the readings. A broker that uses an identifier
//     again at once is noticed, and then a message that was committed and not
//     acknowledged when the process was killed is read twice: a message that is
//     alike could not be told from it, and would be lost.
//   - Memory is bounded: [Config.Queue] messages and 4 MiB wait at most, and no
//     topic of a device may take more than a quarter of it. Beyond that QoS 0
//     messages are counted and dropped; QoS 1 messages stay with the broker.
//   - A retained message is old news: it may tell that a device is online, but it
//     is never put as a reading.
//   - A payload that cannot be parsed, or lacks a point's field, leaves a bad
//     reading, is counted, and is logged when the state changes. So does every
//     point of a device that falls silent, goes offline, or whose broker is gone.
package mqtt
