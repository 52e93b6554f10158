// One repository of a server, as a client that pushes to it and pulls from it.
import { expect } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Answer, Sent, TestServer } from '../support/server.ts';
import type { Content } from './documents.ts';
import type { Group } from './groups.ts';

/** A registry that tests of it start: one process, or several behind a balancer. */
export type Registry = Pick<TestServer, 'send' | 'close'>;

export type StartRegistry = () => Promise<Registry>;

export interface Repository {
  readonly name: string;
  /** `path` begins after the name. */
  send(method: string, path: string, sent?: Sent): Promise<Answer>;
  /** Starts an upload; gives its path after the name. */
  startUpload(): Promise<string>;
  /** By POST and PUT. */
  pushBlob(content: Content): Promise<Answer>;
  pushManifest(content: Content, reference?: string): Promise<Answer>;
  /** Blobs, manifests, then tags. Throws where a push fails. */
  pushGroup(group: Group): Promise<void>;
}

export function openRepository(server: Pick<TestServer, 'send'>, name: string): Repository {
  const send: Repository['send'] = (method, path, sent) => server.send(method, `/v2/${name}${path}`, sent);

  async function startUpload(): Promise<string> {
    return pathOf(await send('POST', '/blobs/uploads/'));
  }

  /** The path after the name that Location points to. */
  function pathOf({ headers: { location = '' } }: Answer): string {
    const { pathname } = new URL(location, 'http://registry');
    if (!pathname.startsWith(`/v2/${name}/`)) throw new Error(`Location is "${location}"`);
    return pathname.slice(`/v2/${name}`.length);
  }

  async function pushBlob({ digest, raw }: Content): Promise<Answer> {
    return send('PUT', `${await startUpload()}?digest=${digest}`, { body: raw });
  }

  async function pushManifest({ mediaType, digest, raw }: Content, reference: string = digest): Promise<Answer> {
    return send('PUT', `/manifests/${reference}`, { headers: { 'Content-Type': mediaType }, body: raw });
  }

  return {
    name,
    send,
    startUpload,
    pushBlob,
    pushManifest,
    async pushGroup({ blobs, manifests, tags, hasTagParameters }) {
      for (const blob of blobs) expectCreated(await pushBlob(blob));
      for (const manifest of manifests) {
        const named = Object.keys(tags).filter(tag => tags[tag] === manifest.digest);
        const query = new URLSearchParams(named.map(tag => ['tag', tag]));
        const answer = await pushManifest(manifest, hasTagParameters ? `${manifest.digest}?${query}` : manifest.digest);
        expectCreated(answer);
        for (const tag of hasTagParameters ? [] : named) expectCreated(await pushManifest(manifest, tag));
      }
    },
  };
}

/** What a client of today accepts. */
export const ACCEPT = { Accept: `${mediaTypes.ociIndex}, ${mediaTypes.ociManifest}, */*` };

function expectCreated({ status, body }: Answer): void {
  if (status !== 201) throw new Error(`${status} ${body}`);
}

/** Another replica may serve what was deleted until it hears of that, for less than a second. */
export async function expectGone(repository: Pick<Repository, 'send'>, path: string): Promise<void> {
  for (const method of ['HEAD', 'GET', 'DELETE']) {
    const look = async () => [method, path, (await repository.send(method, path)).status];
    await expect.poll(look, { timeout: 5_000 }).toEqual([method, path, 404]);
  }
}
