// A device of the reference library that is driven from outside, for the interoperability tests.
//
//   node peer.mjs PACKAGE
//
// Reads one JSON request a line, answers each with one JSON line, in order. A request names an
// operation (`op`) and a device; byte strings travel in base64. The answer is {"ok": …} or
// {"error": "name: message"}. All state is in memory; records are kept serialized, as a real
// client would keep them.

import { createInterface } from "node:readline";

import { operations as groups } from "./groups.mjs";

const signal = await import(process.argv[2]);

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");
const addressOf = (peer) => signal.ProtocolAddress.new(peer.account, peer.device);
// Newer versions take the own address too, behind the peer's.
const takesLocal = signal.signalDecrypt.length === 5;
const keyOf = (address) => `${address.name()}.${address.deviceId()}`;

class Identities extends signal.IdentityKeyStore {
  constructor(registrationId) {
    super();
    this.key = signal.PrivateKey.generate();
    this.registrationId = registrationId;
    this.known = new Map();
  }
  async getIdentityKey() {
    return this.key;
  }
  async getLocalRegistrationId() {
    return this.registrationId;
  }
  async saveIdentity(address, key) {
    const before = this.known.get(keyOf(address));
    this.known.set(keyOf(address), key);
    const changed = before !== undefined && !before.equals(key);
    return changed
      ? signal.IdentityChange.ReplacedExisting
      : signal.IdentityChange.NewOrUnchanged;
  }
  async isTrustedIdentity(address, key) {
    const before = this.known.get(keyOf(address));
    return before === undefined || before.equals(key);
  }
  async getIdentity(address) {
    return this.known.get(keyOf(address)) ?? null;
  }
}

class Sessions extends signal.SessionStore {
  records = new Map();
  async saveSession(address, record) {
    this.records.set(keyOf(address), record.serialize());
  }
  async getSession(address) {
    const data = this.records.get(keyOf(address));
    return data === undefined ? null : signal.SessionRecord.deserialize(data);
  }
  async getExistingSessions(addresses) {
    return Promise.all(addresses.map((address) => this.getSession(address)));
  }
}

function found(map, id) {
  const record = map.get(id);
  if (record === undefined) throw new Error(`no pre-key ${id}`);
  return record;
}

class PreKeys extends signal.PreKeyStore {
  records = new Map();
  async savePreKey(id, record) {
    this.records.set(id, record);
  }
  async getPreKey(id) {
    return found(this.records, id);
  }
  async removePreKey(id) {
    this.records.delete(id);
  }
}

class SignedPreKeys extends signal.SignedPreKeyStore {
  records = new Map();
  async saveSignedPreKey(id, record) {
    this.records.set(id, record);
  }
  async getSignedPreKey(id) {
    return found(this.records, id);
  }
}

class KyberPreKeys extends signal.KyberPreKeyStore {
  records = new Map();
  used = [];
  async saveKyberPreKey(id, record) {
    this.records.set(id, record);
  }
  async getKyberPreKey(id) {
    return found(this.records, id);
  }
  async markKyberPreKeyUsed(id) {
    this.used.push(id);
  }
}

class Device {
  constructor({ account, device, registrationId }) {
    this.address = signal.ProtocolAddress.new(account, device);
    this.identities = new Identities(registrationId);
    this.sessions = new Sessions();
    this.preKeys = new PreKeys();
    this.signedPreKeys = new SignedPreKeys();
    this.kyberPreKeys = new KyberPreKeys();
    this.nextId = 1;
  }

  ends(peer) {
    return takesLocal ? [addressOf(peer), this.address] : [addressOf(peer)];
  }

  async bundle({ oneTime, now }) {
    const id = this.nextId++;
    const identity = this.identities.key;
    const signed = signal.PrivateKey.generate();
    const signedPublic = signed.getPublicKey();
    const signedSignature = identity.sign(signedPublic.serialize());
    const kyber = signal.KEMKeyPair.generate();
    const kyberSignature = identity.sign(kyber.getPublicKey().serialize());
    await this.signedPreKeys.saveSignedPreKey(
      id,
      signal.SignedPreKeyRecord.new(id, now, signedPublic, signed, signedSignature),
    );
    await this.kyberPreKeys.saveKyberPreKey(
      id,
      signal.KyberPreKeyRecord.new(id, now, kyber, kyberSignature),
    );
    const bundle = {
      registration_id: this.identities.registrationId,
      identity_key: text(identity.getPublicKey().serialize()),
      signed_pre_key_id: id,
      signed_pre_key: text(signedPublic.serialize()),
      signed_pre_key_signature: text(signedSignature),
      kyber_pre_key_id: id,
      kyber_pre_key: text(kyber.getPublicKey().serialize()),
      kyber_pre_key_signature: text(kyberSignature),
      pre_key_id: null,
      pre_key: null,
    };
    if (oneTime) {
      const key = signal.PrivateKey.generate();
      await this.preKeys.savePreKey(id, signal.PreKeyRecord.new(id, key.getPublicKey(), key));
      bundle.pre_key_id = id;
      bundle.pre_key = text(key.getPublicKey().serialize());
    }
    return bundle;
  }

  async process({ peer, bundle, now }) {
    await signal.processPreKeyBundle(
      signal.PreKeyBundle.new(
        bundle.registration_id,
        peer.device,
        bundle.pre_key_id,
        bundle.pre_key === null ? null : signal.PublicKey.deserialize(bytes(bundle.pre_key)),
        bundle.signed_pre_key_id,
        signal.PublicKey.deserialize(bytes(bundle.signed_pre_key)),
        bytes(bundle.signed_pre_key_signature),
        signal.PublicKey.deserialize(bytes(bundle.identity_key)),
        bundle.kyber_pre_key_id,
        signal.KEMPublicKey.deserialize(bytes(bundle.kyber_pre_key)),
        bytes(bundle.kyber_pre_key_signature),
      ),
      ...this.ends(peer),
      this.sessions,
      this.identities,
      new Date(now),
    );
    return null;
  }

  async encrypt({ peer, plaintext, now }) {
    const message = await signal.signalEncrypt(
      bytes(plaintext),
      ...this.ends(peer),
      this.sessions,
      this.identities,
      new Date(now),
    );
    return { kind: message.type(), body: text(message.serialize()) };
  }

  async decrypt({ peer, kind, body }) {
    if (kind === signal.CiphertextMessageType.PreKey) {
      return text(
        await signal.signalDecryptPreKey(
          signal.PreKeySignalMessage.deserialize(bytes(body)),
          ...this.ends(peer),
          this.sessions,
          this.identities,
          this.preKeys,
          this.signedPreKeys,
          this.kyberPreKeys,
        ),
      );
    }
    return text(
      await signal.signalDecrypt(
        signal.SignalMessage.deserialize(bytes(body)),
        ...this.ends(peer),
        this.sessions,
        this.identities,
      ),
    );
  }

  async sign({ data }) {
    return text(this.identities.key.sign(bytes(data)));
  }

  async verify({ key, data, signature }) {
    return signal.PublicKey.deserialize(bytes(key)).verify(bytes(data), bytes(signature));
  }

  async state() {
    return {
      identity: text(this.identities.key.getPublicKey().serialize()),
      pre_keys: [...this.preKeys.records.keys()],
      kyber_used: this.kyberPreKeys.used,
      binds_addresses: takesLocal,
    };
  }
}

const { default: MultiRecipientMessage } = await import(
  `${process.argv[2]}/dist/SealedSenderMultiRecipientMessage.js`
);
const groupOperations = groups(signal, MultiRecipientMessage);

const devices = new Map();
const operations = new Set(["bundle", "process", "encrypt", "decrypt", "sign", "verify", "state"]);

async function answer(request) {
  if (request.op === "new") {
    devices.set(request.name, new Device(request));
    return null;
  }
  if (Object.hasOwn(groupOperations, request.op)) {
    return groupOperations[request.op](devices.get(request.name), request);
  }
  if (!operations.has(request.op)) throw new Error(`no operation ${request.op}`);
  return devices.get(request.name)[request.op](request);
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    reply = { ok: await answer(JSON.parse(line)) };
  } catch (error) {
    reply = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
