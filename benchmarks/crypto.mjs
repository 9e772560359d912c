// The reference library's figures, measured inside Node (see crypto.py, which runs this).
//
//   node crypto.mjs FILE_OF_THE_PACKAGE
//
// Reads {"scenario": name, "count": n} a line and answers {"figure": [nanoseconds, …], …}. Every
// session and sender key is kept serialized: each call loads and stores it, as a client's does.

import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";

const signal = await import(process.argv[2]);
const NOW = new Date(1790000000000);
const BODY = new Uint8Array(300).fill(98);

class Serialized {
  data = new Map();
  constructor(kind) {
    this.kind = kind;
  }
  put(key, record) {
    this.data.set(key, record.serialize());
  }
  get(key) {
    const data = this.data.get(key);
    return data === undefined ? null : this.kind.deserialize(data);
  }
}

class Identities extends signal.IdentityKeyStore {
  key = signal.PrivateKey.generate();
  known = new Map();
  async getIdentityKey() {
    return this.key;
  }
  async getLocalRegistrationId() {
    return 1;
  }
  async saveIdentity(address, key) {
    this.known.set(address.toString(), key);
    return signal.IdentityChange.NewOrUnchanged;
  }
  async isTrustedIdentity() {
    return true;
  }
  async getIdentity(address) {
    return this.known.get(address.toString()) ?? null;
  }
}

class Sessions extends signal.SessionStore {
  records = new Serialized(signal.SessionRecord);
  async saveSession(address, record) {
    this.records.put(address.toString(), record);
  }
  async getSession(address) {
    return this.records.get(address.toString());
  }
}

class PreKeys extends signal.PreKeyStore {
  records = new Serialized(signal.PreKeyRecord);
  async savePreKey(id, record) {
    this.records.put(id, record);
  }
  async getPreKey(id) {
    return this.records.get(id);
  }
  async removePreKey(id) {
    this.records.data.delete(id);
  }
}

class SignedPreKeys extends signal.SignedPreKeyStore {
  records = new Serialized(signal.SignedPreKeyRecord);
  async saveSignedPreKey(id, record) {
    this.records.put(id, record);
  }
  async getSignedPreKey(id) {
    return this.records.get(id);
  }
}

class KyberPreKeys extends signal.KyberPreKeyStore {
  records = new Serialized(signal.KyberPreKeyRecord);
  async saveKyberPreKey(id, record) {
    this.records.put(id, record);
  }
  async getKyberPreKey(id) {
    return this.records.get(id);
  }
  async markKyberPreKeyUsed() {}
}

class SenderKeys extends signal.SenderKeyStore {
  records = new Serialized(signal.SenderKeyRecord);
  async saveSenderKey(sender, distribution, record) {
    this.records.put(`${sender} ${distribution}`, record);
  }
  async getSenderKey(sender, distribution) {
    return this.records.get(`${sender} ${distribution}`);
  }
}

class Device {
  address = signal.ProtocolAddress.new(randomUUID(), 1);
  identities = new Identities();
  sessions = new Sessions();
  preKeys = new PreKeys();
  signedPreKeys = new SignedPreKeys();
  kyberPreKeys = new KyberPreKeys();
  senderKeys = new SenderKeys();

  async bundle() {
    const identity = this.identities.key;
    const once = signal.PrivateKey.generate();
    const signed = signal.PrivateKey.generate();
    const kyber = signal.KEMKeyPair.generate();
    const signature = identity.sign(signed.getPublicKey().serialize());
    const kyberSignature = identity.sign(kyber.getPublicKey().serialize());
    const time = NOW.getTime();
    await this.preKeys.savePreKey(1, signal.PreKeyRecord.new(1, once.getPublicKey(), once));
    await this.signedPreKeys.saveSignedPreKey(
      1,
      signal.SignedPreKeyRecord.new(1, time, signed.getPublicKey(), signed, signature),
    );
    await this.kyberPreKeys.saveKyberPreKey(
      1,
      signal.KyberPreKeyRecord.new(1, time, kyber, kyberSignature),
    );
    return signal.PreKeyBundle.new(
      1,
      1,
      1,
      once.getPublicKey(),
      1,
      signed.getPublicKey(),
      signature,
      identity.getPublicKey(),
      1,
      kyber.getPublicKey(),
      kyberSignature,
    );
  }

  process(peer, bundle) {
    return signal.processPreKeyBundle(
      bundle,
      peer.address,
      this.address,
      this.sessions,
      this.identities,
      NOW,
    );
  }

  async encrypt(peer) {
    const message = await signal.signalEncrypt(
      BODY,
      peer.address,
      this.address,
      this.sessions,
      this.identities,
      NOW,
    );
    return message.serialize();
  }

  decryptFirst(peer, body) {
    return signal.signalDecryptPreKey(
      signal.PreKeySignalMessage.deserialize(body),
      peer.address,
      this.address,
      this.sessions,
      this.identities,
      this.preKeys,
      this.signedPreKeys,
      this.kyberPreKeys,
    );
  }

  decrypt(peer, body) {
    return signal.signalDecrypt(
      signal.SignalMessage.deserialize(body),
      peer.address,
      this.address,
      this.sessions,
      this.identities,
    );
  }
}

async function established() {
  const alice = new Device();
  const bob = new Device();
  await alice.process(bob, await bob.bundle());
  await bob.decryptFirst(alice, await alice.encrypt(bob));
  await alice.decrypt(bob, await bob.encrypt(alice));
  return [alice, bob];
}

async function timed(into, run) {
  const start = process.hrtime.bigint();
  const result = await run();
  into.push(Number(process.hrtime.bigint() - start));
  return result;
}

const scenarios = {
  async "set-up"(count) {
    const initiate = [];
    const respond = [];
    for (let i = 0; i < count; i++) {
      const alice = new Device();
      const bob = new Device();
      const bundle = await bob.bundle();
      const first = await timed(initiate, async () => {
        await alice.process(bob, bundle);
        return alice.encrypt(bob);
      });
      await timed(respond, () => bob.decryptFirst(alice, first));
    }
    return { initiate, respond };
  },

  async "one-way"(count) {
    const encrypt = [];
    const decrypt = [];
    const [alice, bob] = await established();
    for (let i = 0; i < count; i++) {
      const body = await timed(encrypt, () => alice.encrypt(bob));
      await timed(decrypt, () => bob.decrypt(alice, body));
    }
    return { encrypt, decrypt };
  },

  async "ping-pong"(count) {
    const encrypt = [];
    const decrypt = [];
    let [sender, receiver] = await established();
    for (let i = 0; i < count; i++) {
      const body = await timed(encrypt, () => sender.encrypt(receiver));
      await timed(decrypt, () => receiver.decrypt(sender, body));
      [sender, receiver] = [receiver, sender];
    }
    return { encrypt, decrypt };
  },

  async "sender key"(count) {
    const encrypt = [];
    const decrypt = [];
    const alice = new Device();
    const bob = new Device();
    const group = randomUUID();
    const key = await signal.SenderKeyDistributionMessage.create(
      alice.address,
      group,
      alice.senderKeys,
    );
    await signal.processSenderKeyDistributionMessage(alice.address, key, bob.senderKeys);
    for (let i = 0; i < count; i++) {
      const body = await timed(encrypt, async () =>
        (await signal.groupEncrypt(alice.address, group, alice.senderKeys, BODY)).serialize(),
      );
      await timed(decrypt, () => signal.groupDecrypt(alice.address, bob.senderKeys, body));
    }
    return { encrypt, decrypt };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { scenario, count } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await scenarios[scenario](count))}\n`);
}
