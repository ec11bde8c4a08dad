// What goes through sstproxy, by the rules it was started with: the last rule
// that fits decides. What is blocked goes there too, to be refused.

// bytesOf returns the 4 or 16 octets of an address, null for a name.
function bytesOf(host) {
  if (host.indexOf(":") < 0) return v4(host);
  var at = host.lastIndexOf(":") + 1, tail = [];
  if (host.indexOf(".") >= 0) {
    tail = v4(host.substring(at));
    if (!tail) return null;
    host = host.substring(0, at) + hex(tail, 0) + ":" + hex(tail, 2);
  }
  var halves = host.split("::");
  if (halves.length > 2) return null;
  var head = groups(halves[0]), end = groups(halves.length == 2 ? halves[1] : "");
  if (!head || !end) return null;
  if (halves.length == 2 ? head.length + end.length > 14 : head.length != 16) return null;
  while (head.length + end.length < 16) head.push(0);
  var all = head.concat(end);
  for (var i = 0; i < 12; i++) if (all[i] != (i < 10 ? 0 : 255)) return all;
  return all.slice(12);
}

function v4(host) {
  var parts = host.split("."), bytes = [];
  if (parts.length != 4) return null;
  for (var i = 0; i < 4; i++) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(parts[i]) || +parts[i] > 255) return null;
    bytes.push(+parts[i]);
  }
  return bytes;
}

function hex(bytes, at) { return (bytes[at] * 256 + bytes[at + 1]).toString(16); }

function groups(text) {
  var bytes = [], parts = text == "" ? [] : text.split(":");
  for (var i = 0; i < parts.length; i++) {
    if (!/^[0-9a-f]{1,4}$/.test(parts[i])) return null;
    var n = parseInt(parts[i], 16);
    bytes.push(n >> 8, n & 255);
  }
  return bytes;
}

function inPrefix(bytes, prefix, bits) {
  if (bytes.length != prefix.length) return false;
  for (var i = 0; i < bytes.length && bits > 0; i++, bits -= 8) {
    var mask = bits >= 8 ? 255 : 256 - (1 << (8 - bits));
    if ((bytes[i] & mask) != prefix[i]) return false;
  }
  return true;
}

function fitsName(pattern, name) {
  if (pattern.indexOf("*") >= 0) {
    return new RegExp("^" + pattern.replace(/\./g, "\\.").replace(/\*+/g, ".*") + "$").test(name);
  }
  var dotted = "." + pattern;
  return name == pattern || name.substring(name.length - dotted.length) == dotted;
}

function portOf(url) {
  var parts = /^([a-z0-9.+-]+):\/\/([^\/?#]*)/i.exec(url);
  if (!parts) return 0;
  var port = /:([0-9]+)$/.exec(parts[2]);
  if (port) return +port[1];
  return {http: 80, ws: 80, https: 443, wss: 443, ftp: 21}[parts[1].toLowerCase()] || 0;
}

function isThisMachine(host, bytes) {
  if (!bytes) return fitsName("localhost", host);
  return bytes.length == 4 ? bytes[0] == 127 : bytes.join("") == "0000000000000001";
}

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");
  var bytes = bytesOf(host), port = portOf(url);
  if (isThisMachine(host, bytes)) return "DIRECT";
  if (!bytes && (plain && host.indexOf(".") < 0 || names.indexOf(host) >= 0)) return proxies;
  for (var i = rules.length - 1; i >= 0; i--) {
    var r = rules[i];
    if (port < r.low || port > r.high) continue;
    if (r.prefix && !bytes) {
      if (r.decision != "direct") return proxies; // which knows the address
      continue;
    }
    if (r.prefix ? inPrefix(bytes, r.prefix, r.bits) : r.pattern == "*" || !bytes && fitsName(r.pattern, host)) {
      return r.decision == "direct" ? "DIRECT" : proxies;
    }
  }
  return otherwise == "direct" ? "DIRECT" : proxies;
}
