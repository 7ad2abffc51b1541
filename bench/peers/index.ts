/** All peers by the names that `--peer` takes. */

import { downhillPeer } from "./downhill.js";
import type { Peer } from "./peer.js";
import { pythonPeer } from "./python.js";

export const peers: Readonly<Record<string, () => Peer>> = {
  downhill: downhillPeer,
  pytorch: () => pythonPeer("pytorch_peer.py"),
  optax: () => pythonPeer("optax_peer.py"),
};
