//! The table for people, and for scripts that look for "CUDA Version".

use crate::fields::shown;
use crate::gpu::{Gpu, System, process_name};

/// Characters between the table's borders.
const WIDTH: usize = 77;

/// Everything in a table.
pub(crate) fn table(system: &System, gpus: &[Gpu<'_>]) -> String {
    let (driver, cuda) = (system.driver_version(), system.cuda_version());
    let rule = format!("+{}+\n", "-".repeat(WIDTH));
    let mut text = rule.clone();
    let head = format!(
        " VCOMPUTE-SMI {:<12} Driver Version: {driver:<14} CUDA Version: {cuda}",
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(&line(&head));
    text.push_str(&rule);
    text.push_str(&line(&first_row("GPU", "Name", "Bus-Id", "Persistence")));
    text.push_str(&line(&second_row(["Temp", "Perf", "Power", "Memory-Usage", "GPU-Util", "Compute M."])));
    text.push_str(&format!("|{}|\n", "=".repeat(WIDTH)));
    for gpu in gpus {
        let value = |name: &str| shown(gpu, name);
        let index = gpu.index.to_string();
        text.push_str(&line(&first_row(&index, &gpu.name(), &gpu.pci(), &value("persistence_mode"))));
        let power = format!("{}W / {}W", value("power.draw"), value("power.limit")).replace("N/AW", "N/A");
        let memory =
            format!("{}MiB / {}MiB", value("memory.used"), value("memory.total")).replace("N/AMiB", "N/A");
        let temperature = format!("{}C", value("temperature.gpu")).replace("N/AC", "N/A");
        let percent = format!("{}%", value("utilization.gpu")).replace("N/A%", "N/A");
        let (state, mode) = (value("pstate"), value("compute_mode"));
        text.push_str(&line(&second_row([&temperature, &state, &power, &memory, &percent, &mode])));
        text.push_str(&rule);
    }
    text.push('\n');
    text.push_str(&rule);
    text.push_str(&line(" Processes:"));
    text.push_str(&line("  GPU      PID   Process name                                     GPU Memory"));
    text.push_str(&format!("|{}|\n", "=".repeat(WIDTH)));
    let mut none = true;
    for gpu in gpus {
        for process in gpu.processes() {
            none = false;
            let memory = if process.memory == u64::MAX {
                "N/A".to_owned()
            } else {
                format!("{}MiB", process.memory >> 20)
            };
            let name = process_name(process.process);
            let row =
                format!("  {:>3} {:>8}   {:<45} {memory:>13}", gpu.index, process.process, cut(&name, 45));
            text.push_str(&line(&row));
        }
    }
    if none {
        text.push_str(&line("  No running processes found"));
    }
    text.push_str(&rule);
    text
}

fn first_row(index: &str, name: &str, pci: &str, persistence: &str) -> String {
    format!(" {index:>3}  {:<36} {pci:<18} {persistence:>14}", cut(name, 36))
}

fn second_row([temperature, state, power, memory, percent, mode]: [&str; 6]) -> String {
    format!("      {temperature:<5} {state:<4} {power:<17} {memory:<21} {percent:>8} {:>11}", cut(mode, 11))
}

fn line(content: &str) -> String {
    format!("|{:<WIDTH$}|\n", cut(content, WIDTH))
}

/// The first characters of a text.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_great_card_fits() {
        let row = second_row(["100C", "P0", "700.00W / 700.00W", "143771MiB / 143771MiB", "100%", "Default"]);
        assert_eq!(row.chars().count(), WIDTH);
        assert_eq!(
            first_row("15", &"x".repeat(60), "00000000:F0:00.0", "Enabled").chars().count(),
            WIDTH - 1
        );
    }

    #[test]
    fn lines_have_one_width() {
        for content in ["", "abc", &"x".repeat(200)] {
            assert_eq!(line(content).chars().count(), WIDTH + 3);
        }
    }
}
