// A registry of its own as builds see one: where bases come from, and where results go. Over plain HTTP, without credentials.
import type { BaseImages, Destination } from '../../../src/builds/images.ts';
import type { ContentDescriptor } from '../../../src/oci/descriptor.ts';
import { type Digest, digestOf, parseDigest } from '../../../src/oci/digest.ts';
import { type Manifest, parseManifest } from '../../../src/oci/manifest.ts';
import { ACCEPT_MANIFESTS } from '../../../src/oci/media-type.ts';

export interface RegistryImages {
  readonly images: BaseImages;
  /** The repository's name begins with the registry's host. */
  readonly openDestination: (repository: string) => Destination;
  /** The root of `host/repository:tag`. */
  readRoot(image: string): Promise<ContentDescriptor>;
  /** A manifest or a blob of the repository. */
  read(image: string, descriptor: ContentDescriptor): Promise<Uint8Array>;
}

export function createRegistryImages(): RegistryImages {
  async function readRoot(image: string): Promise<ContentDescriptor> {
    const response = await get(urlOf(image, 'manifests'));
    const raw = new Uint8Array(await response.arrayBuffer());
    return { mediaType: response.headers.get('content-type') ?? '', digest: digestOf(raw), size: raw.byteLength };
  }

  async function readManifest(image: string, digest: Digest): Promise<Manifest> {
    const response = await get(urlOf(image, 'manifests', digest));
    const raw = new Uint8Array(await response.arrayBuffer());
    return parseManifest(raw, response.headers.get('content-type') ?? '', digest);
  }

  const readBlob = async (image: string, digest: Digest) =>
    new Uint8Array(await (await get(urlOf(image, 'blobs', digest))).arrayBuffer());

  return {
    readRoot,
    read: async (image, { mediaType, digest }) =>
      /manifest|index/.test(mediaType) ? (await readManifest(image, digest)).raw : readBlob(image, digest),
    images: {
      resolve: async reference => (await readRoot(reference)).digest,
      open: async (reference, root) => ({
        root: await readManifest(reference, root),
        readManifest: ({ digest }) => readManifest(reference, digest),
        readConfig: ({ digest }) => readBlob(reference, digest),
        openBlob: async digest => ReadableStream.from([await readBlob(reference, digest)]),
      }),
    },
    openDestination,
  };
}

function openDestination(repository: string): Destination {
  const hasBlob = async (digest: Digest) => (await fetch(urlOf(repository, 'blobs', digest), { method: 'HEAD' })).ok;
  return {
    repository,
    hasBlob,
    async putBlob({ digest }, open) {
      if (await hasBlob(digest)) return;
      const begun = await check(await fetch(`${urlOf(repository, 'blobs')}uploads/`, { method: 'POST' }));
      const location = new URL(begun.headers.get('location') ?? '', begun.url);
      location.searchParams.set('digest', digest);
      const body = await new Response(await open()).arrayBuffer();
      await check(
        await fetch(location, { method: 'PUT', body, headers: { 'content-type': 'application/octet-stream' } }),
      );
    },
    async putManifest({ raw, mediaType, digest, tags }) {
      for (const name of tags.length > 0 ? tags : [digest]) {
        const headers = { 'content-type': mediaType };
        await check(
          await fetch(urlOf(repository, 'manifests', name), { method: 'PUT', body: Buffer.from(raw), headers }),
        );
      }
    },
    findTag: async tag => {
      const response = await fetch(urlOf(repository, 'manifests', tag), {
        method: 'HEAD',
        headers: { accept: ACCEPT_MANIFESTS },
      });
      return response.ok ? parseDigest(response.headers.get('docker-content-digest') ?? '') : undefined;
    },
  };
}

/** The address of what `host/repository[:tag]` has; the tag's own, where none is named. */
function urlOf(image: string, kind: 'manifests' | 'blobs', name?: string): string {
  const [, host = '', repository = '', tag = ''] = /^([^/]+)\/([^:@]+)(?::([^:/@]+))?/.exec(image) ?? [];
  return `http://${host}/v2/${repository}/${kind}/${name ?? tag}`;
}

async function get(url: string): Promise<Response> {
  return check(await fetch(url, { headers: { accept: ACCEPT_MANIFESTS } }));
}

async function check(response: Response): Promise<Response> {
  if (response.ok) return response;
  throw new Error(`${response.url} answers ${response.status}: ${await response.text()}`);
}
