"""Serves registers by pymodbus: pymodbus_server.py tcp PORT | rtu DEVICE BAUD | ascii DEVICE BAUD | rtu-over-tcp PORT

Unit 1 holds registers 0 to 199 (register n holds n), coils 0 to 99 (the even ones
are on), and the same as inputs. "ready" is printed once the server is made.
"""
import sys
import threading

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

slave = ModbusSlaveContext(
    di=ModbusSequentialDataBlock(0, [(n + 1) % 2 for n in range(100)]),
    co=ModbusSequentialDataBlock(0, [(n + 1) % 2 for n in range(100)]),
    hr=ModbusSequentialDataBlock(0, list(range(200))),
    ir=ModbusSequentialDataBlock(0, list(range(200))),
    zero_mode=True,
)
context = ModbusServerContext(slaves={1: slave}, single=False)
kind = sys.argv[1]
threading.Timer(0.5, lambda: print("ready", flush=True)).start()
if kind == "tcp":
    StartTcpServer(context=context, address=("127.0.0.1", int(sys.argv[2])), framer=ModbusSocketFramer)
elif kind == "rtu-over-tcp":
    StartTcpServer(context=context, address=("127.0.0.1", int(sys.argv[2])), framer=ModbusRtuFramer)
else:
    framer = ModbusRtuFramer if kind == "rtu" else ModbusAsciiFramer
    StartSerialServer(context=context, port=sys.argv[2], baudrate=int(sys.argv[3]), framer=framer, timeout=0.05)
