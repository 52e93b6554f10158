// A process that pushes images into the directory that it is given, eight at a time, and prints what was acknowledged, until it is killed.
import { join } from 'node:path';
import { createDiskStore } from '../../src/content/disk.ts';
import { createUploadFiles } from '../../src/content/upload-files.ts';
import { createHostedRepositories } from '../../src/hosted/repositories.ts';
import { createHostedStore } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { pushSmall } from './fixture.ts';

const memory = createMemory();

const [, , directory = ''] = process.argv;
const store = createHostedStore({
  memory,
  content: await createDiskStore({ directory }),
  records: createSqliteStore({ path: join(directory, 'records.db') }),
  now: () => new Date(),
});
const hosted = createHostedRepositories(store, await createUploadFiles({ directory }));

async function pushForEver(pusher: number): Promise<never> {
  for (let i = 0; ; i++) {
    const { config, layer, digest } = await pushSmall(hosted, 'local/app', `${pusher} ${i}`, { tags: [`t${pusher}`] });
    process.stdout.write(`blob ${config}\nblob ${layer}\nmanifest ${digest}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, (_, pusher) => pushForEver(pusher)));
