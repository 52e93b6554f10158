// Pushing to a registry that speaks distribution-spec over HTTP.

import { orUndefined } from '../../oci/absence.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Pusher } from '../upstream.ts';
import { createRegistry } from './registry.ts';
import { createWrites, requireStored, uploadBlob, type Writes, type WritesOptions } from './upload.ts';

export function createPusher(options: WritesOptions): Pusher {
  // A token that may only pull is not given for a repository that is yet to be made.
  const registry = createRegistry({ ...options, actions: 'pull,push' });
  const transport = options.transports.own;

  return {
    name: options.name,

    async hasBlob(repository, digest, options) {
      return (await orUndefined(registry.headBlob(repository, digest, options))) !== undefined;
    },

    async mountBlob(repository, digest, { from, signal }) {
      const writes = createWrites(options, { repository, part: `blobs/${digest}`, from, signal });
      try {
        return await mount(writes, digest, from);
      } catch (error) {
        // Nothing is lost: what keeps it from mounting keeps it from an upload too, or does not matter there.
        if (error instanceof RegistryError) return false;
        throw error;
      }
    },

    async putBlob(repository, blob, { signal } = {}) {
      const writes = createWrites(options, { repository, part: `blobs/${blob.digest}`, signal });
      await uploadBlob({ writes, transport, signal }, blob);
    },

    async putManifest(repository, { reference, digest, mediaType, raw }, { signal } = {}) {
      const part = `manifests/${reference}`;
      const { addressOf, write, attempt } = createWrites(options, { repository, part, signal });
      const headers = { 'content-type': mediaType };
      requireStored(await write(addressOf(part), { method: 'PUT', headers, body: raw }), digest, attempt);
    },

    async findManifest(repository, reference, options) {
      const head = await orUndefined(registry.headManifest(repository, reference, options));
      if (!head || head.digest) return head?.digest;
      return (await orUndefined(registry.getManifest(repository, reference, options)))?.digest;
    },
  };
}

async function mount({ addressOf, write, parseSession }: Writes, digest: Digest, from: string): Promise<boolean> {
  const uploads = addressOf(`blobs/uploads/?${new URLSearchParams({ mount: digest, from })}`);
  const { statusCode, headers } = await write(uploads, { method: 'POST' });
  if (statusCode === 201) return true;
  // An upload has begun in its place, which we do not need.
  await write(parseSession(headers.location, uploads), { method: 'DELETE' });
  return false;
}
