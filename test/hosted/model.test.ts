// The registry against its model: any sequence of pushes, mounts, deletions, crashes and restarts, and any interleaving of them.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createUploadFiles } from '../../src/content/upload-files.ts';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { audit } from './audit.ts';
import {
  bytes,
  chunk,
  createPlace,
  descriptorOf,
  json,
  type Parts,
  type Place,
  pushBlob,
  putManifest,
  readBlob,
} from './fixture.ts';
import { createModel, type Model, type Operation, type Outcome } from './model.ts';

const REPOSITORIES = ['local/a', 'local/a-b', 'local/a/b'];
const TAGS = ['1', '2', 'latest'];
const BLOBS = ['{}', 'one', 'two', 'three'].map(bytes);
const NEEDS = [[0], [0, 1], [0, 1, 2], [0, 3], [0, 1]];
const MANIFESTS = NEEDS.map(([config = 0, ...layers], i) =>
  json({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: descriptorOf(blobOf(config), mediaTypes.ociEmpty),
    layers: layers.map(layer => descriptorOf(blobOf(layer), 'text/plain')),
    ...(i > 2 && { subject: { mediaType: mediaTypes.ociManifest, digest: digestOf(bytes('x')), size: 1 } }),
    annotations: { i: `${i}` },
  }),
);

function blobOf(i: number): Uint8Array {
  return BLOBS[i] ?? bytes('none');
}

function manifestOf(i: number): Uint8Array {
  return MANIFESTS[i] ?? bytes('none');
}

const repository = fc.constantFrom(...REPOSITORIES);
const blob = fc.nat(BLOBS.length - 1);
const manifest = fc.nat(MANIFESTS.length - 1);
const kind = <K extends string>(name: K) => fc.constant(name);
const changing = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: kind('push'), repository, blob }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: kind('mount'), repository, from: fc.option(repository, { nil: undefined }), blob }),
  },
  { weight: 3, arbitrary: fc.record({ kind: kind('deleteBlob'), repository, blob }) },
  { weight: 4, arbitrary: fc.record({ kind: kind('put'), repository, manifest, tags: fc.subarray(TAGS) }) },
  { weight: 2, arbitrary: fc.record({ kind: kind('deleteManifest'), repository, manifest }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('deleteTag'), repository, tag: fc.constantFrom(...TAGS) }) },
);
const any: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 16, arbitrary: changing },
  { weight: 1, arbitrary: fc.record({ kind: kind('abandon'), repository, blob }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('crash'), repository, blob }) },
  { weight: 1, arbitrary: fc.record({ kind: kind('restart') }) },
);

async function run(hosted: HostedRepositories, operation: Operation): Promise<Outcome> {
  try {
    return await attempt(hosted, operation);
  } catch (error) {
    if (error instanceof RegistryError) return error.code;
    throw error;
  }
}

async function attempt(hosted: HostedRepositories, operation: Operation): Promise<Outcome> {
  switch (operation.kind) {
    case 'push':
      await pushBlob(hosted, operation.repository, blobOf(operation.blob));
      return undefined;
    case 'mount': {
      const source = { from: operation.from, isReadable: () => true };
      return await hosted.blobs.mount(operation.repository, digestOf(blobOf(operation.blob)), source);
    }
    case 'deleteBlob':
      await hosted.blobs.delete(operation.repository, digestOf(blobOf(operation.blob)));
      return undefined;
    case 'put':
      await putManifest(hosted, operation.repository, manifestOf(operation.manifest), { tags: operation.tags });
      return undefined;
    case 'deleteManifest':
      await hosted.manifests.delete(operation.repository, digestOf(manifestOf(operation.manifest)));
      return undefined;
    case 'deleteTag':
      await hosted.tags.delete(operation.repository, operation.tag);
      return undefined;
    case 'abandon': {
      const { id } = await hosted.uploads.start(operation.repository);
      await hosted.uploads.append(operation.repository, id, chunk(blobOf(operation.blob)));
      return undefined;
    }
    case 'crash':
    case 'restart':
      return undefined;
  }
}

/** A push that dies between the bytes and the records. */
async function crash(place: Place, name: string, content: Uint8Array): Promise<void> {
  const died = Promise.withResolvers<void>();
  const write = () => {
    died.resolve();
    return new Promise<never>(() => {});
  };
  void pushBlob(await place.open({}, { records: { ...place.records, write } }), name, content);
  await died.promise;
}

async function expectSame(hosted: HostedRepositories, { repositories }: Model): Promise<void> {
  for (const [name, { blobs, manifests, tags }] of repositories) {
    const isThere = blobs.size + manifests.size > 0;
    const listed = await run(hosted, { kind: 'deleteTag', repository: name, tag: 'never' });
    expect(listed).toBe(isThere ? 'MANIFEST_UNKNOWN' : 'NAME_UNKNOWN');
    if (isThere) expect((await hosted.tags.list(name, {})).tags).toEqual([...tags.keys()].sort());
    for (const [tag, target] of tags) expect(await hosted.tags.resolve(name, tag)).toBe(digestOf(manifestOf(target)));
    for (const i of BLOBS.keys()) {
      const found = await readBlob(hosted, name, digestOf(blobOf(i))).catch(() => undefined);
      expect(found && Buffer.from(found).toString()).toBe(blobs.has(i) ? Buffer.from(blobOf(i)).toString() : undefined);
    }
    for (const i of MANIFESTS.keys()) {
      const found = await hosted.manifests.get(name, digestOf(manifestOf(i))).catch(() => undefined);
      expect(found !== undefined).toBe(manifests.has(i));
    }
    const { descriptors } = await hosted.listReferrers(name, digestOf(bytes('x')), {});
    const referrers = [...manifests].filter(i => i > 2).map(i => digestOf(manifestOf(i)));
    expect(descriptors.map(({ digest }) => digest)).toEqual(referrers.sort());
  }
}

test('does what its model does, whatever the sequence', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(any, { maxLength: 60, size: 'max' }), async operations => {
      const place = await createPlace();
      const model = createModel(REPOSITORIES, NEEDS);
      let hosted = await place.open();
      for (const operation of operations) {
        if (operation.kind === 'crash') await crash(place, operation.repository, blobOf(operation.blob));
        if (operation.kind === 'restart' || operation.kind === 'crash') {
          hosted = await place.open();
          await hosted.expireUploads();
        }
        expect([operation, await run(hosted, operation)]).toEqual([operation, model.apply(operation)]);
      }
      await expectSame(hosted, model);
      place.advance(48 * 3600 * 1000);
      await hosted.expireUploads();
      await place.collect();
      await audit(place);
      await place.remove();
    }),
    { numRuns: 60 },
  );
});

/** Every call on content, upload files and records waits until the scheduler lets it go on, in an order of its choosing. */
async function schedule(place: Place, scheduler: fc.Scheduler): Promise<Partial<Parts>> {
  const { content, records } = place;
  const uploadFiles = await createUploadFiles(place);
  return {
    content: {
      ...content,
      find: scheduler.scheduleFunction(content.find),
      read: scheduler.scheduleFunction(content.read),
      delete: scheduler.scheduleFunction(content.delete),
    },
    uploadFiles: {
      ...uploadFiles,
      async create(id, algorithm) {
        const file = await uploadFiles.create(id, algorithm);
        return {
          append: file.append,
          truncate: file.truncate,
          keep: file.keep,
          commit: scheduler.scheduleFunction(file.commit),
          get size() {
            return file.size;
          },
        };
      },
    },
    records: {
      ...records,
      get: scheduler.scheduleFunction(records.get),
      list: scheduler.scheduleFunction(records.list),
      // Scheduled before the call: a conflict has to have somebody who waits for it.
      write: async (...change) => scheduler.schedule(Promise.resolve()).then(() => records.write(...change)),
    },
  };
}

async function expectImagesWhole(place: Place): Promise<void> {
  for (const key of await place.records.list('hosted.manifest', { limit: 1000 })) {
    const [name = '', digest] = key.split('@');
    const needs = NEEDS[MANIFESTS.findIndex(raw => digestOf(raw) === digest)] ?? [];
    for (const i of needs) {
      expect(await place.records.get('hosted.blob', `${name}@${digestOf(blobOf(i))}`)).toBeDefined();
    }
  }
}

// Few names, so that operations meet: the same blobs are pushed, referred to and deleted at once.
const near = {
  repository: fc.constantFrom('local/a', 'local/a-b'),
  blob: fc.constantFrom(1, 2),
  manifest: fc.constantFrom(1, 2, 4),
};
const meeting: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: kind('push'), repository: near.repository, blob: near.blob }),
  fc.record({ kind: kind('mount'), repository: near.repository, from: fc.constant(undefined), blob: near.blob }),
  { weight: 3, arbitrary: fc.record({ kind: kind('deleteBlob'), repository: near.repository, blob: near.blob }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: kind('put'),
      repository: near.repository,
      manifest: near.manifest,
      tags: fc.subarray(TAGS),
    }),
  },
  fc.record({ kind: kind('deleteManifest'), repository: near.repository, manifest: near.manifest }),
  fc.record({ kind: kind('deleteTag'), repository: near.repository, tag: fc.constantFrom(...TAGS) }),
);

test('loses nothing that is linked and keeps nothing else, whatever the interleaving', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(meeting, { minLength: 4, maxLength: 14 }),
      fc.scheduler(),
      async (operations, scheduler) => {
        const place = await createPlace();
        const quiet = await place.open();
        for (const content of BLOBS) await pushBlob(quiet, 'local/a', content);
        const hosted = await place.open({}, await schedule(place, scheduler));
        await scheduler.waitFor(
          Promise.all([...operations.map(operation => run(hosted, operation)), hosted.expireUploads()]),
        );
        await audit(place);
        await expectImagesWhole(place);
        await place.remove();
      },
    ),
    { numRuns: 150 },
  );
});
