// What a device of peer.mjs does beside sessions: sender keys, safety numbers, sealed sender.
//
// Each operation takes the device and the request and returns the answer. Byte strings travel in
// base64; certificates and messages are written bytes throughout.

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");

export function operations(signal, MultiRecipientMessage) {
  class SenderKeys extends signal.SenderKeyStore {
    records = new Map();
    async saveSenderKey(sender, distribution, record) {
      this.records.set(`${sender.toString()} ${distribution}`, record.serialize());
    }
    async getSenderKey(sender, distribution) {
      const data = this.records.get(`${sender.toString()} ${distribution}`);
      return data === undefined ? null : signal.SenderKeyRecord.deserialize(data);
    }
  }

  const addressOf = (peer) => signal.ProtocolAddress.new(peer.account, peer.device);
  const keyOf = (data) => signal.PublicKey.deserialize(bytes(data));
  const senderKeys = (device) => (device.senderKeys ??= new SenderKeys());

  async function content(device, { distribution, plaintext, certificate, hint, group }) {
    return signal.UnidentifiedSenderMessageContent.new(
      await signal.groupEncrypt(
        device.address,
        distribution,
        senderKeys(device),
        bytes(plaintext),
      ),
      signal.SenderCertificate.deserialize(bytes(certificate)),
      hint,
      group === null ? null : bytes(group),
    );
  }

  return {
    async senderKey(device, { distribution }) {
      return text(
        (
          await signal.SenderKeyDistributionMessage.create(
            device.address,
            distribution,
            senderKeys(device),
          )
        ).serialize(),
      );
    },

    async dropSenderKey(device) {
      device.senderKeys = new SenderKeys();
      return null;
    },

    async takeSenderKey(device, { peer, body }) {
      await signal.processSenderKeyDistributionMessage(
        addressOf(peer),
        signal.SenderKeyDistributionMessage.deserialize(bytes(body)),
        senderKeys(device),
      );
      return null;
    },

    async groupEncrypt(device, { distribution, plaintext }) {
      const message = await signal.groupEncrypt(
        device.address,
        distribution,
        senderKeys(device),
        bytes(plaintext),
      );
      return text(message.serialize());
    },

    async groupDecrypt(device, { peer, body }) {
      return text(await signal.groupDecrypt(addressOf(peer), senderKeys(device), bytes(body)));
    },

    async safetyNumber(_, { iterations, version, localId, localKey, remoteId, remoteKey }) {
      const made = signal.Fingerprint.new(
        iterations,
        version,
        bytes(localId),
        keyOf(localKey),
        bytes(remoteId),
        keyOf(remoteKey),
      );
      return {
        text: made.displayableFingerprint().toString(),
        code: text(made.scannableFingerprint().toBuffer()),
      };
    },

    async compareCodes(_, { ours, scanned }) {
      const code = (data) => signal.ScannableFingerprint._fromBuffer(bytes(data));
      return code(ours).compare(code(scanned));
    },

    async certify(_, { sender, key, expires, phone }) {
      const root = signal.PrivateKey.generate();
      const server = signal.PrivateKey.generate();
      const serverCertificate = signal.ServerCertificate.new(7, server.getPublicKey(), root);
      const certificate = signal.SenderCertificate.new(
        sender.account,
        phone,
        sender.device,
        keyOf(key),
        expires,
        serverCertificate,
        server,
      );
      return {
        root: text(root.getPublicKey().serialize()),
        server_key: text(server.serialize()),
        server: text(serverCertificate.serialize()),
        server_content: text(serverCertificate.certificateData()),
        sender: text(certificate.serialize()),
        sender_content: text(certificate.certificate()),
      };
    },

    async validate(_, { certificate, roots, now }) {
      return signal.SenderCertificate.deserialize(bytes(certificate)).validateWithTrustRoots(
        roots.map(keyOf),
        now,
      );
    },

    async seal(device, { peer, key, ...fields }) {
      await device.identities.saveIdentity(addressOf(peer), keyOf(key));
      return text(
        await signal.sealedSenderEncrypt(
          await content(device, fields),
          addressOf(peer),
          device.identities,
        ),
      );
    },

    async sealForMany(device, { peers, excluded, ...fields }) {
      return text(
        await signal.sealedSenderMultiRecipientEncrypt({
          content: await content(device, fields),
          recipients: peers.map(addressOf),
          excludedRecipients: excluded.map((account) => signal.Aci.fromUuid(account)),
          identityStore: device.identities,
          sessionStore: device.sessions,
        }),
      );
    },

    async split(_, { body }) {
      const upload = new MultiRecipientMessage(bytes(body));
      const recipients = Object.entries(upload.recipientsByServiceIdString());
      return {
        excluded: upload.excludedRecipientServiceIdStrings(),
        recipients: recipients.map(([account, recipient]) => ({
          account,
          devices: recipient.deviceIds,
          registration_ids: recipient.registrationIds,
          body: text(upload.messageForRecipient(recipient)),
        })),
      };
    },

    async unseal(device, { body }) {
      const opened = await signal.sealedSenderDecryptToUsmc(bytes(body), device.identities);
      const group = opened.groupId();
      return {
        kind: opened.msgType(),
        message: text(opened.contents()),
        certificate: text(opened.senderCertificate().serialize()),
        hint: opened.contentHint(),
        group: group === null ? null : text(group),
      };
    },
  };
}
