/**
 * All peers by the names that `--peer` takes. downhill is first, because tables compare the other times with the first
 * one.
 */

import { boundsPeer } from "./bounds.js";
import { downhillPeer } from "./downhill.js";
import { jaxJsPeer } from "./jax-js.js";
import { javascriptPeer } from "./javascript.js";
import { nativePeer } from "./native.js";
import type { Peer } from "./peer.js";
import { pythonPeer } from "./python.js";
import { tfjsPeer } from "./tfjs.js";

export const peers: Readonly<Record<string, () => Peer>> = {
  downhill: downhillPeer,
  bounds: boundsPeer,
  javascript: javascriptPeer,
  "tfjs-cpu": () => tfjsPeer("cpu"),
  "tfjs-wasm": () => tfjsPeer("wasm"),
  "jax-js": jaxJsPeer,
  c: () => nativePeer(),
  "c-128": () => nativePeer(128),
  pytorch: () => pythonPeer("pytorch_peer.py"),
  optax: () => pythonPeer("optax_peer.py"),
};
