// `veneer config`: checks the configuration as a start does, shows the effective values, and prints a schema for editors.
import { existsSync } from 'node:fs';
import { Argument, Command } from 'commander';
import { type ConfigSources, findConfigFile, loadConfig } from '../config/config.ts';
import { describeKey, type EffectiveKey, listEffectiveKeys } from '../config/effective.ts';
import { ConfigError, type ConfigFault } from '../config/faults.ts';
import { createJsonSchema } from '../config/json-schema.ts';
import type { Config } from '../config/schema.ts';
import { explain, formatColumns, plainText, print } from './output.ts';

interface ConfigCommandDeps {
  /** Called when a command runs. */
  readonly findConfigSources: () => ConfigSources;
  /** Faults that would prevent a start although the configuration itself is valid, such as an unreadable file of users. */
  readonly findStartFaults: (config: Config) => Promise<readonly ConfigFault[]>;
}

interface JsonOption {
  readonly json?: boolean;
}

export function createConfigCommand(deps: ConfigCommandDeps): Command {
  const command = new Command('config').description('checks and shows the configuration');
  addCheck(command, deps);
  addShow(command, deps);
  addSchema(command);
  return command;
}

function addCheck(command: Command, { findConfigSources, findStartFaults }: ConfigCommandDeps): void {
  command
    .command('check')
    .description('lists every fault with its file, line and key, and its remedy; starts nothing')
    .addArgument(createFileArgument())
    .option('--json', 'prints the faults as JSON')
    .action(async (file: string | undefined, { json }: JsonOption, self: Command) => {
      const sources = withFile(findConfigSources(), file);
      const faults = await findFaults(sources, findStartFaults);
      const path = findConfigFile(sources);
      if (json) print(self, JSON.stringify({ file: path, valid: faults.length === 0, faults }, undefined, 2));
      if (faults.length > 0) self.error(new ConfigError(faults).message);
      if (!json)
        explain(self, existsSync(path) ? `${path}: no faults` : `there is no ${path}: all keys have their defaults`);
    });
}

function createFileArgument(): Argument {
  return new Argument('[file]', 'the configuration file (default: as for the service)');
}

function withFile(sources: ConfigSources, file: string | undefined): ConfigSources {
  return file === undefined ? sources : { ...sources, flags: { ...sources.flags, config: file } };
}

async function findFaults(
  sources: ConfigSources,
  findStartFaults: ConfigCommandDeps['findStartFaults'],
): Promise<readonly ConfigFault[]> {
  try {
    return await findStartFaults(loadConfig(sources));
  } catch (error) {
    if (error instanceof ConfigError) return error.details;
    throw error;
  }
}

function addShow(command: Command, { findConfigSources }: ConfigCommandDeps): void {
  command
    .command('show')
    .description('prints the effective values, defaults included, and the source of each; secrets are hidden')
    .addArgument(createFileArgument())
    .option('--json', 'prints a list of keys, values and sources')
    .action((file: string | undefined, { json }: JsonOption, self: Command) => {
      const sources = withFile(findConfigSources(), file);
      try {
        loadConfig(sources);
      } catch (error) {
        if (error instanceof ConfigError) self.error(error.message);
        throw error;
      }
      const keys = listEffectiveKeys(sources);
      const lines = json ? [JSON.stringify(keys.map(describeKey), undefined, 2)] : formatKeys(keys);
      for (const line of lines) print(self, line);
    });
}

/** One line per key. */
function formatKeys(keys: readonly EffectiveKey[]): readonly string[] {
  const rows = keys.map(describeKey).map(({ key, value, source }) => [key, formatValue(value), source]);
  return formatColumns(
    ['KEY', 'VALUE', 'FROM'],
    rows.map(row => row.map(plainText)),
  );
}

function formatValue(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function addSchema(command: Command): void {
  command
    .command('schema')
    .description('prints a JSON schema of the configuration, for completion and validation in editors')
    .action((_, self: Command) => print(self, JSON.stringify(createJsonSchema(), undefined, 2)));
}
