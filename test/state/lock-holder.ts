// A process that owns the directory that it is given, and lets go of it when it is told to, until its input ends.
import { join } from 'node:path';
import { lockDirectory } from '../../src/state/data-directory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';

const [, , directory = ''] = process.argv;
const owner = lockDirectory(directory);
process.stdout.write('owned\n');
process.stdin.on('data', said => {
  if (String(said) === 'open\n') {
    createSqliteStore({ path: join(directory, 'records.db') });
    process.stdout.write('opened\n');
  } else {
    owner.release();
    process.stdout.write('released\n');
  }
});
