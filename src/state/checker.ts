// The thread that reads all pages of the records, and tells whether they make sense: as long as that takes, nothing else waits for it.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { quickCheck } from './schema.ts';

const { path }: { readonly path: string } = workerData;
const database = new DatabaseSync(path, { readOnly: true });
const verdict = quickCheck(database);
database.close();
parentPort?.postMessage(verdict);
