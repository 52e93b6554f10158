// The folder that stands in for ~/.docker in a build: the credentials are the build's, all else is as this user has set it up.
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { BuildCredentials } from '../../backend.ts';
import { dockerConfig } from '../buildkit/docker-config.ts';

/** What is taken over: nothing in it is secret. */
const configSchema = z.object({
  currentContext: z.string().optional(),
  cliPluginsExtraDirs: z.array(z.string()).optional(),
});

type Config = z.output<typeof configSchema>;

/** `home` exists; `folder` is the user's own. */
export async function writeDockerFolder(
  home: string,
  folder: string,
  credentials: ReadonlyMap<string, BuildCredentials>,
): Promise<void> {
  const { currentContext, cliPluginsExtraDirs = [] } = await readConfig(join(folder, 'config.json'));
  const plugins = [join(folder, 'cli-plugins'), ...cliPluginsExtraDirs];
  const config = { ...dockerConfig(credentials), currentContext, cliPluginsExtraDirs: plugins };
  await writeFile(join(home, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  await symlink(join(folder, 'contexts'), join(home, 'contexts'));
}

/** Empty where there is none that docker could read. */
async function readConfig(path: string): Promise<Config> {
  try {
    return configSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return {};
  }
}
