// Package sim is the outside of a gateway, made up: Modbus units, an MQTT broker
// and cameras that a driver reads as it reads real ones. Tests break it in every
// way (see drivertest), and langbiang-edge simulate shows a configuration with it
// before there is any hardware.
//
//	field := &sim.Field{}
//	field.Holding(3, 500, 23, 1)
//	err := field.ListenTCP(listener) ...
//
// [Field] is a set of Modbus units with registers and faults; [Server] puts it on a
// socket as Modbus TCP, RTU or ASCII, [Port] behind a pseudo-terminal at a path that
// stays. [Broker] is an MQTT broker for subscribers of QoS 0. [Camera] speaks RTSP
// and gives snapshots.
//
// [Model] is what one device says: the state that the fixtures of its profile
// begin with, and values that move within what is plausible. It is pure; time is
// an argument.
//
// Nothing here opens anything but listeners of this machine and pseudo-terminals.
package sim
