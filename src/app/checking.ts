// Checks what a valid configuration refers to, such as files and their contents, as a start would. Starts nothing.
import { existsSync } from 'node:fs';
import { AccessFault, type AccessOptions } from '../access/access.ts';
import { findGrantFaults } from '../access/granted.ts';
import { parseSigningKey } from '../access/keys.ts';
import { openUserFile } from '../access/user-file.ts';
import { ConfigError, type ConfigFault } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import { readTlsFiles, TlsFault } from '../http/middleware/tls.ts';
import { openRecipes } from './pulling.ts';

/** Empty if there are none. */
export async function findStartFaults({ access, rules, builds, tls }: Config): Promise<readonly ConfigFault[]> {
  const checks = [
    ...(access ? [() => checkAccess(access), () => checkKey(access), () => checkUsers(access)] : []),
    () => void openRecipes(builds.recipes),
    ...(tls ? [() => void readTlsFiles(tls)] : []),
  ];
  const found = await Promise.all(checks.map(findFaults));
  return [...found.flat(), ...rules.flatMap(findMissingLayers)];
}

async function findFaults(check: () => Promise<void> | void): Promise<readonly ConfigFault[]> {
  try {
    await check();
    return [];
  } catch (error) {
    if (error instanceof AccessFault) return error.faults.map(message => ({ message }));
    if (error instanceof TlsFault) return [{ message: error.message }];
    if (error instanceof ConfigError) return error.details;
    throw error;
  }
}

function checkAccess(access: AccessOptions): void {
  const faults = findGrantFaults(access);
  if (faults.length > 0) throw new AccessFault(faults);
}

function checkKey({ signingKey }: AccessOptions): void {
  if (signingKey !== undefined) parseSigningKey(signingKey, 'access.signingKey');
}

async function checkUsers({ htpasswd }: AccessOptions): Promise<void> {
  if (htpasswd !== undefined) await openUserFile({ path: htpasswd, onFault() {} });
}

/** The service starts without them, and refuses images that need them. */
function findMissingLayers({ layers }: Config['rules'][number], at: number): readonly ConfigFault[] {
  return layers.flatMap((layer, index) => {
    const isMissing = (layer.kind === 'directory' || layer.kind === 'file') && !existsSync(layer.path);
    return isMissing ? [{ key: `rules.${at}.layers.${index}`, message: `there is no ${layer.path}` }] : [];
  });
}
