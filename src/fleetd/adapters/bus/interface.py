"""What fleetd offers on the bus: names, members, introspection data.

org.freedesktop.LogControl1 is systemd's interface for `systemctl service-log-level`; see
org.freedesktop.LogControl1(5).
"""

from __future__ import annotations

from typing import Final

from fleetd.adapters.bus.orders import ORDERS, arguments_of, signature_of

BUS_NAME: Final = "org.fleetd1"
MANAGER_PATH: Final = "/org/fleetd1"
MANAGER: Final = "org.fleetd1.Manager"
LOG_CONTROL_PATH: Final = "/org/freedesktop/LogControl1"
LOG_CONTROL: Final = "org.freedesktop.LogControl1"
PEER: Final = "org.freedesktop.DBus.Peer"
INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

ERROR_NOT_READY: Final = "org.fleetd1.Error.NotReady"
ERROR_REFUSED: Final = "org.fleetd1.Error.Refused"
ERROR_FAILED: Final = "org.freedesktop.DBus.Error.Failed"
ERROR_TIMEOUT: Final = "org.freedesktop.DBus.Error.Timeout"
ERROR_ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
ERROR_INVALID_ARGS: Final = "org.freedesktop.DBus.Error.InvalidArgs"
ERROR_LIMITS: Final = "org.freedesktop.DBus.Error.LimitsExceeded"
ERROR_READ_ONLY: Final = "org.freedesktop.DBus.Error.PropertyReadOnly"
ERROR_UNKNOWN_METHOD: Final = "org.freedesktop.DBus.Error.UnknownMethod"
ERROR_UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"
ERROR_UNKNOWN_INTERFACE: Final = "org.freedesktop.DBus.Error.UnknownInterface"
ERROR_UNKNOWN_PROPERTY: Final = "org.freedesktop.DBus.Error.UnknownProperty"


class CallRefusedError(Exception):
    """A call that gets an error reply: its D-Bus error name and a sentence."""

    def __init__(self, name: str, sentence: str) -> None:
        self.name = name
        super().__init__(sentence)


#: Interface and member to the signature of its arguments.
METHODS: Final = {
    (MANAGER, "Status"): "",
    (MANAGER, "Hosts"): "",
    (MANAGER, "Reload"): "",
    **{(MANAGER, method): signature_of(method) for method in ORDERS},
    (PEER, "Ping"): "",
    (PEER, "GetMachineId"): "",
    (INTROSPECTABLE, "Introspect"): "",
    (PROPERTIES, "Get"): "ss",
    (PROPERTIES, "GetAll"): "s",
    (PROPERTIES, "Set"): "ssv",
}

#: A call may leave the interface out.
INTERFACE_OF_MEMBER: Final = {member: interface for interface, member in METHODS}

_STANDARD = """
 <interface name="org.freedesktop.DBus.Peer">
  <method name="Ping"/>
  <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
 </interface>
 <interface name="org.freedesktop.DBus.Introspectable">
  <method name="Introspect"><arg name="data" type="s" direction="out"/></method>
 </interface>"""
_WITH_PROPERTIES = """
 <interface name="org.freedesktop.DBus.Properties">
  <method name="Get"><arg name="interface" type="s" direction="in"/>
   <arg name="property" type="s" direction="in"/><arg name="value" type="v" direction="out"/></method>
  <method name="GetAll"><arg name="interface" type="s" direction="in"/>
   <arg name="properties" type="a{sv}" direction="out"/></method>
  <method name="Set"><arg name="interface" type="s" direction="in"/>
   <arg name="property" type="s" direction="in"/><arg name="value" type="v" direction="in"/></method>
 </interface>"""


def _order_xml(method: str) -> str:
    """It answers with a sentence for whoever gave the order."""
    taken = "".join(f'<arg name="{name}" type="{kind}" direction="in"/>' for name, kind in arguments_of(method))
    return f'\n  <method name="{method}">{taken}<arg name="answer" type="s" direction="out"/></method>'


_MANAGER_XML = f"""
 <interface name="org.fleetd1.Manager">
  <method name="Status"><arg name="json" type="s" direction="out"/></method>
  <method name="Hosts"><arg name="json" type="s" direction="out"/></method>
  <method name="Reload"/>{"".join(map(_order_xml, ORDERS))}
  <property name="Version" type="s" access="read">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/></property>
 </interface>"""
_LOG_CONTROL_XML = """
 <interface name="org.freedesktop.LogControl1">
  <property name="LogLevel" type="s" access="readwrite">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/></property>
  <property name="LogTarget" type="s" access="read">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/></property>
  <property name="SyslogIdentifier" type="s" access="read">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/></property>
 </interface>"""
_HEAD = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n<node>'
)


def _node(*parts: str) -> str:
    return "".join([_HEAD, *parts, "\n</node>\n"])


def _child(name: str) -> str:
    return f'\n <node name="{name}"/>'


#: Introspection data of every object path; the ones between are there for `busctl tree`.
INTROSPECTION: Final = {
    "/": _node(_STANDARD, _child("org")),
    "/org": _node(_STANDARD, _child("fleetd1"), _child("freedesktop")),
    "/org/freedesktop": _node(_STANDARD, _child("LogControl1")),
    MANAGER_PATH: _node(_STANDARD, _WITH_PROPERTIES, _MANAGER_XML),
    LOG_CONTROL_PATH: _node(_STANDARD, _WITH_PROPERTIES, _LOG_CONTROL_XML),
}
